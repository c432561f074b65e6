/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx check */
#include "cli.h"

enum { KEY_NO_CHILDREN = 256 };

static const struct cli_option option[] = {
	{KEY_NO_CHILDREN, "no-children", NULL, "look at the one process alone"},
	{0},
};

static int set(void *data, int key, const char *arg)
{
	*(bool *)data = true;
	return 0;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_common common;
	const char *operand = NULL;
	bool no_children = false;
	int status = cli_parse(self, argc, argv, set, &no_children, &common, &operand);
	pid_t pid;

	if (status != CLI_GO_ON)
		return status;
	if (cli_parse_pid(operand, &pid) < 0)
		return cli_usage_error(self, "'%s' is not a PID", operand);
	cli_set_log(&common);
	cpx_check(pid, no_children, &r);
	status = cli_report(&r);
	if (common.json)
		status = cli_print_json(cli_json(&r), status);
	else if (status == CPX_DONE && !common.quiet)
		fprintf(stderr, "cpx: process %d can be checkpointed\n", pid);
	cpx_result_release(&r);
	return status;
}

const struct cli_command cmd_check = {
	.name = "check",
	.operand = "PID",
	.summary = "List everything for which a dump of PID would be refused",
	.details = "The processes are stopped for as long as a dump would stop them. Exit status "
		   "3: it would be refused.",
	.option = option,
	.run = run,
};
