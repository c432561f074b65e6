/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx info */
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
	cpx_info(file, common.json, stdout, &r);
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
