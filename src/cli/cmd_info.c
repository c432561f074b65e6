/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx info */
#include "cli.h"

enum { KEY_PARENT = 256 };

static const struct cli_option option[] = {
	{KEY_PARENT, "parent", "FILE", CLI_PARENT_HELP},
	{0},
};

static int set(void *data, int key, const char *arg)
{
	return cli_add_parent(&cmd_info, data, arg);
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_parents parents = {.n = 0};
	struct cpx_parents look_in;
	struct cli_common common;
	const char *file = NULL;
	int status = cli_parse(self, argc, argv, set, &parents, &common, &file);

	if (status != CLI_GO_ON)
		return status;
	cli_set_log(&common);
	look_in = cli_parents(&parents);
	cpx_info(file, &look_in, common.json, stdout, &r);
	status = cli_finish_stdout(cli_report(&r));
	cpx_result_release(&r);
	return status;
}

const struct cli_command cmd_info = {
	.name = "info",
	.operand = "FILE",
	.summary = "Print what an image holds",
	.option = option,
	.run = run,
};
