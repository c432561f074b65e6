/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx verify */
#include "cli.h"

static const struct cli_option option[] = {{0}};

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_common common;
	const char *file = NULL;
	int status = cli_parse(self, argc, argv, NULL, NULL, &common, &file);

	if (status != CLI_GO_ON)
		return status;
	cli_set_log(&common);
	cpx_verify(file, &r);
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
