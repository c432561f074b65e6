/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx flatten */
#include "cli.h"

#include <string.h>
#include <unistd.h>

enum { KEY_COMPRESS = 256, KEY_PARENT };

static const struct cli_option option[] = {
	{'o', "output", "FILE", "write the image there, '-': to standard output"},
	{KEY_COMPRESS, "compress", "METHOD", "none, lz4 or zstd[:LEVEL] (default: lz4, into pipes zstd:1)"},
	{KEY_PARENT, "parent", "FILE", CLI_PARENT_HELP},
	{0},
};

struct options {
	struct cpx_flatten_options flatten;
	struct cli_parents parents;
};

static int set(void *data, int key, const char *arg)
{
	struct options *o = data;

	switch (key) {
	case 'o':
		o->flatten.output = arg;
		return 0;
	case KEY_COMPRESS:
		return cli_set_compress(&cmd_flatten, &o->flatten.compress, &o->flatten.level, arg);
	default:
		return cli_add_parent(&cmd_flatten, &o->parents, arg);
	}
}

static int flatten(const struct cpx_flatten_options *o, const struct cli_common *common)
{
	struct cpx_result r = CPX_RESULT_INIT;
	char memory[32], image[32];
	json_t *object;
	int status;

	cli_set_log(common);
	cpx_flatten(o, &r);
	status = cli_report(&r);
	if (common->json && strcmp(o->output, "-") != 0) {
		object = cli_json(&r);
		json_object_set_new(object, "memory_bytes", json_integer(r.memory_bytes));
		json_object_set_new(object, "image_bytes", json_integer(r.image_bytes));
		status = cli_print_json(object, status);
	} else if (status == CPX_DONE && !common->quiet) {
		fprintf(stderr, "cpx: %s of memory into %s\n",
			cli_format_bytes(r.memory_bytes, memory, sizeof(memory)),
			cli_format_bytes(r.image_bytes, image, sizeof(image)));
	}
	cpx_result_release(&r);
	return status;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct options o = {.flatten = {.in_fd = STDIN_FILENO, .out_fd = STDOUT_FILENO}};
	struct cli_common common;
	int status = cli_parse(self, argc, argv, set, &o, &common, &o.flatten.input);

	if (status != CLI_GO_ON)
		return status;
	if (!o.flatten.output)
		return cli_usage_error(self, "--output is missing");
	if (strcmp(o.flatten.output, "-") == 0 && isatty(o.flatten.out_fd))
		return cli_usage_error(self, "an image is not written to a terminal");
	o.flatten.parents = cli_parents(&o.parents);
	return flatten(&o.flatten, &common);
}

const struct cli_command cmd_flatten = {
	.name = "flatten",
	.operand = "FILE|-",
	.summary = "Make one image of a delta and all that it builds on",
	.option = option,
	.run = run,
};
