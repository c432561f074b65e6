/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx verify */
#include "cli.h"

enum { KEY_PARENT = 256 };

static const struct cli_option option[] = {
	{KEY_PARENT, "parent", "FILE", CLI_PARENT_HELP},
	{0},
};

static int set(void *data, int key, const char *arg)
{
	return cli_add_parent(&cmd_verify, data, arg);
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
	cpx_verify(file, &look_in, &r);
	status = cli_report(&r);
	if (common.json)
		status = cli_print_json(cli_json(&r), status);
	else if (status == CPX_DONE && !common.quiet)
		fprintf(stderr, "cpx: %s: complete and undamaged\n", file);
	cpx_result_release(&r);
	return status;
}

const struct cli_command cmd_verify = {
	.name = "verify",
	.operand = "FILE",
	.summary = "Check every checksum and reference of an image",
	.option = option,
	.run = run,
};
