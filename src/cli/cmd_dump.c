/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx dump */
#include "cli.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

enum {
	KEY_KILL = 256,
	KEY_STOP,
	KEY_NO_CHILDREN,
	KEY_COMPRESS,
	KEY_GHOST_LIMIT,
	KEY_LIMIT_RATE,
	KEY_PIPE,
	KEY_UNIX,
	KEY_PRECOPY,
	KEY_PARENT,
	KEY_EVERY,
	KEY_COUNT,
};

enum { DEFAULT_ROUNDS = 8, MAX_ROUNDS = 100 };

static const struct cli_option option[] = {
	{'o', "output", "FILE",
	 "write the image there, '-': to standard output (default: PID.cpx)"},
	{KEY_PARENT, "parent", "IMAGE",
	 "write only what has changed since this image of the tree was made"},
	{KEY_EVERY, "every", "SECONDS",
	 "go on making images, of what was written to since the one before: FILE.1, FILE.2 ..."},
	{KEY_COUNT, "count", "N", "with --every: so many images in all"},
	{KEY_KILL, "kill", NULL, "end the tree after a good image"},
	{KEY_STOP, "stop", NULL, "leave the tree stopped"},
	{KEY_NO_CHILDREN, "no-children", NULL, "take the one process alone"},
	{KEY_COMPRESS, "compress", "METHOD", "none, lz4 or zstd[:LEVEL] (default: lz4, into pipes zstd:1)"},
	{'j', "jobs", "N", "compress with N threads (default: one a CPU)"},
	{KEY_LIMIT_RATE, "limit-rate", "RATE", "write at most so many bytes a second, such as 50M"},
	{KEY_GHOST_LIMIT, "ghost-limit", "SIZE",
	 "largest deleted but open file that is stored (default: 1G)"},
	{KEY_PIPE, "external-pipe", "WHAT",
	 "accept pipes to outside the tree; at restore: inherit[:FD], file:/PATH or null"},
	{KEY_UNIX, "external-unix", NULL,
	 "accept Unix connections to outside, which restore makes again by name"},
	{KEY_PRECOPY, "precopy", "[=ROUNDS]",
	 "copy memory while the tree runs, then freeze for what changed since (0: do not)"},
	{0},
};

struct options {
	struct cpx_dump_options dump;
	struct cli_pipes pipes;
	uint64_t every_ms; /* 0: one image */
	uint64_t count;
};

static int set_after(struct cpx_dump_options *o, enum cpx_after after)
{
	if (o->after != CPX_AFTER_RUN && o->after != after) {
		cli_usage_error(&cmd_dump, "--kill and --stop exclude each other");
		return -1;
	}
	o->after = after;
	return 0;
}

static int set_precopy(struct cpx_dump_options *o, const char *text)
{
	uint64_t rounds = DEFAULT_ROUNDS;

	if (text && cli_parse_number(text, 0, MAX_ROUNDS, &rounds) < 0) {
		cli_usage_error(&cmd_dump, "--precopy is a number of rounds up to %d, not '%s'",
				MAX_ROUNDS, text);
		return -1;
	}
	o->precopy = (unsigned)rounds;
	return 0;
}

static int set_ghost_limit(struct cpx_dump_options *o, const char *text)
{
	if (cli_parse_size(text, &o->ghost_limit) == 0 && o->ghost_limit > 0)
		return 0;
	cli_usage_error(&cmd_dump, "--ghost-limit is a size such as 64M, not '%s'", text);
	return -1;
}

static int set_limit_rate(struct cpx_dump_options *o, const char *text)
{
	if (cli_parse_size(text, &o->limit_rate) == 0 && o->limit_rate > 0)
		return 0;
	cli_usage_error(&cmd_dump, "--limit-rate is bytes a second such as 50M, not '%s'", text);
	return -1;
}

static int set_every(struct options *o, const char *text)
{
	if (cli_parse_time(text, &o->every_ms) == 0 && o->every_ms > 0)
		return 0;
	cli_usage_error(&cmd_dump, "--every is a time such as 60, 0.5 or 10m, not '%s'", text);
	return -1;
}

static int set_count(struct options *o, const char *text)
{
	if (cli_parse_number(text, 1, UINT_MAX, &o->count) == 0)
		return 0;
	cli_usage_error(&cmd_dump, "--count is a number of images, not '%s'", text);
	return -1;
}

static int set(void *data, int key, const char *arg)
{
	struct options *all = data;
	struct cpx_dump_options *o = &all->dump;

	switch (key) {
	case 'o':
		o->output = arg;
		return 0;
	case KEY_KILL:
		return set_after(o, CPX_AFTER_KILL);
	case KEY_STOP:
		return set_after(o, CPX_AFTER_STOP);
	case KEY_PARENT:
		o->parent = arg;
		return 0;
	case KEY_EVERY:
		return set_every(all, arg);
	case KEY_COUNT:
		return set_count(all, arg);
	case KEY_NO_CHILDREN:
		o->no_children = true;
		return 0;
	case KEY_COMPRESS:
		return cli_set_compress(&cmd_dump, &o->compress, &o->level, arg);
	case 'j':
		return cli_set_jobs(&cmd_dump, &o->workers, arg);
	case KEY_LIMIT_RATE:
		return set_limit_rate(o, arg);
	case KEY_PIPE:
		return cli_add_pipe(&cmd_dump, &all->pipes, arg);
	case KEY_UNIX:
		o->external_unix = true;
		return 0;
	case KEY_PRECOPY:
		return set_precopy(o, arg);
	default:
		return set_ghost_limit(o, arg);
	}
}

static json_t *to_json(const struct cpx_result *r)
{
	json_t *object = cli_json(r);

	json_object_set_new(object, "frozen_us", json_integer(r->frozen_us));
	json_object_set_new(object, "wall_us", json_integer(r->wall_us));
	json_object_set_new(object, "tasks", json_integer(r->tasks));
	json_object_set_new(object, "threads", json_integer(r->threads));
	json_object_set_new(object, "memory_bytes", json_integer(r->memory_bytes));
	json_object_set_new(object, "image_bytes", json_integer(r->image_bytes));
	json_object_set_new(object, "pages", json_integer(r->pages));
	json_object_set_new(object, "zero_pages", json_integer(r->zero_pages));
	json_object_set_new(object, "shared_pages", json_integer(r->shared_pages));
	json_object_set_new(object, "before_pages", json_integer(r->before_pages));
	json_object_set_new(object, "freeze_mode", json_string(r->freeze_mode));
	if (r->changes[0])
		json_object_set_new(object, "changes", json_string(r->changes));
	if (r->changes_reason[0])
		json_object_set_new(object, "changes_reason", cli_json_text(r->changes_reason));
	if (r->rounds) {
		json_object_set_new(object, "rounds", json_integer(r->rounds));
		json_object_set_new(object, "round_frozen_us", json_integer(r->round_frozen_us));
	}
	if (r->freeze_reason[0])
		json_object_set_new(object, "freeze_reason", json_string(r->freeze_reason));
	return object;
}

static void print_summary(const char *file, const struct cpx_result *r)
{
	char memory[32], image[32];

	fprintf(stderr,
		"cpx: %s%sdumped %u task%s, %u thread%s, %s of memory into %s; frozen for %.1f ms of "
		"%.1f ms\n",
		file, *file ? ": " : "", r->tasks, r->tasks == 1 ? "" : "s", r->threads, r->threads == 1 ? "" : "s",
		cli_format_bytes(r->memory_bytes, memory, sizeof(memory)),
		cli_format_bytes(r->image_bytes, image, sizeof(image)), r->frozen_us / 1000.0,
		r->wall_us / 1000.0);
}

/* ---- several ---- */

struct several {
	const struct cli_common *common;
	struct cli_progress progress;
	bool has_warned;
	bool has_failed; /* to write to standard output */
};

static void warn_of_comparing(struct several *s, const struct cpx_result *r)
{
	if (s->has_warned || s->common->quiet || strcmp(r->changes, "comparing") != 0 || !r->changes_reason[0])
		return;
	s->has_warned = true;
	cli_error("warning: what has changed is found by comparing with the image before, as %s",
		  r->changes_reason);
}

static void say(struct several *s, const char *file, const struct cpx_result *r)
{
	json_t *object;
	int status = cli_report(r);

	warn_of_comparing(s, r);
	if (s->common->json) {
		object = to_json(r);
		json_object_set_new(object, "image", cli_json_text(file));
		s->has_failed |= cli_print_json(object, CPX_DONE) != CPX_DONE;
	} else if (status == CPX_DONE && !s->common->quiet) {
		print_summary(file, r);
	}
}

static void each(void *data, const char *file, const struct cpx_result *r)
{
	struct several *s = data;

	cli_progress_end(&s->progress);
	say(s, file, r);
}

static int dump_several(const struct options *o, const struct cli_common *common)
{
	struct several s = {.common = common};
	struct cpx_every_options every = {
		.dump = o->dump,
		.every_ms = o->every_ms,
		.count = (unsigned)o->count,
		.each = each,
		.data = &s,
	};
	struct cpx_result r = CPX_RESULT_INIT;
	int status;

	cli_set_log(common);
	every.dump.progress = cli_progress_start(&s.progress, common);
	cpx_dump_every(&every, &r);
	cli_progress_end(&s.progress);
	status = cli_report(&r);
	if (!r.images && common->json)
		cli_print_json(to_json(&r), status);
	if (r.ended[0] && !r.error[0] && !common->quiet)
		cli_error("%s: %u image%s made", r.ended, r.images, r.images == 1 ? " was" : "s were");
	cpx_result_release(&r);
	return status == CPX_DONE && s.has_failed ? CPX_FAILED : status;
}

/* What goes on has no end to be stopped at, and a chain of files. */
static int check_several(const struct options *o)
{
	if (o->every_ms == 0)
		return o->count ? cli_usage_error(&cmd_dump, "--count goes with --every") : CLI_GO_ON;
	if (o->dump.after != CPX_AFTER_RUN)
		return cli_usage_error(&cmd_dump, "--every excludes --kill and --stop");
	if (o->dump.precopy)
		return cli_usage_error(&cmd_dump, "--every and --precopy exclude each other");
	if (o->dump.output && strcmp(o->dump.output, "-") == 0)
		return cli_usage_error(&cmd_dump, "--every writes files, not to standard output");
	return CLI_GO_ON;
}

static int check_usage(const struct cpx_dump_options *o, const struct cli_common *common)
{
	if (!o->output || strcmp(o->output, "-") != 0)
		return CLI_GO_ON;
	if (common->json)
		return cli_usage_error(&cmd_dump, "--json and '-o -' both need standard output");
	if (isatty(o->out_fd))
		return cli_usage_error(&cmd_dump, "an image is not written to a terminal");
	return CLI_GO_ON;
}

static int dump(struct cpx_dump_options *o, const struct cli_common *common)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_progress progress;
	int status;

	cli_set_log(common);
	o->progress = cli_progress_start(&progress, common);
	cpx_dump(o, &r);
	cli_progress_end(&progress);
	status = cli_report(&r);
	if (common->json)
		status = cli_print_json(to_json(&r), status);
	else if (status == CPX_DONE && !common->quiet)
		print_summary("", &r);
	cpx_result_release(&r);
	return status;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct options o = {.dump.out_fd = STDOUT_FILENO};
	struct cli_common common;
	const char *operand = NULL;
	int status = cli_parse(self, argc, argv, set, &o, &common, &operand);

	if (status == CLI_GO_ON && cli_parse_pid(operand, &o.dump.pid) < 0)
		status = cli_usage_error(self, "'%s' is not a PID", operand);
	if (status == CLI_GO_ON && o.dump.parent && o.dump.precopy > 0)
		status = cli_usage_error(self, "--parent and --precopy exclude each other");
	if (status == CLI_GO_ON)
		status = check_usage(&o.dump, &common);
	if (status == CLI_GO_ON)
		status = check_several(&o);
	o.dump.external_pipe = o.pipes.item;
	o.dump.nexternal_pipes = o.pipes.n;
	if (status == CLI_GO_ON)
		status = o.every_ms ? dump_several(&o, &common) : dump(&o.dump, &common);
	return status;
}

const struct cli_command cmd_dump = {
	.name = "dump",
	.operand = "PID",
	.summary = "Write the state of process PID and all its descendants to an image file",
	.details = "The processes go on running, and are stopped only while a copy-on-write copy "
		   "is made.\n"
		   "An image appears under its name only when it is complete.",
	.option = option,
	.run = run,
};
