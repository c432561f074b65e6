/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx check */
#include "cli.h"

enum { KEY_NO_CHILDREN = 256, KEY_PIPE, KEY_UNIX };

struct options {
	struct cpx_dump_options dump;
	struct cli_pipes pipes;
};

static const struct cli_option option[] = {
	{KEY_NO_CHILDREN, "no-children", NULL, "look at the one process alone"},
	{KEY_PIPE, "external-pipe", "WHAT", "as for cpx dump"},
	{KEY_UNIX, "external-unix", NULL, "as for cpx dump"},
	{0},
};

static int set(void *data, int key, const char *arg)
{
	struct options *o = data;

	if (key == KEY_PIPE)
		return cli_add_pipe(&cmd_check, &o->pipes, arg);
	if (key == KEY_UNIX)
		o->dump.external_unix = true;
	else
		o->dump.no_children = true;
	return 0;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_common common;
	const char *operand = NULL;
	struct options o = {0};
	int status = cli_parse(self, argc, argv, set, &o, &common, &operand);

	if (status != CLI_GO_ON)
		return status;
	if (cli_parse_pid(operand, &o.dump.pid) < 0)
		return cli_usage_error(self, "'%s' is not a PID", operand);
	o.dump.external_pipe = o.pipes.item;
	o.dump.nexternal_pipes = o.pipes.n;
	cli_set_log(&common);
	cpx_check(&o.dump, &r);
	status = cli_report(&r);
	if (common.json)
		status = cli_print_json(cli_json(&r), status);
	else if (status == CPX_DONE && !common.quiet)
		fprintf(stderr, "cpx: process %d can be checkpointed\n", o.dump.pid);
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
