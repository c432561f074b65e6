/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands of the command line share. They use libcpx only through include/cpx.h. */
#ifndef CPX_CLI_CLI_H
#define CPX_CLI_CLI_H

#include "cpx.h"

#include <jansson.h>

struct cli_option {
	int key; /* the short option's letter, or a number above 255 for a long one alone */
	const char *name; /* NULL ends a table */
	const char *arg;  /* name of its argument in the help; NULL: takes none; "[=NAME]": may have one */
	const char *help;
};

/* Options that every command has; cli_parse() sets them itself. */
struct cli_common {
	bool json;
	bool quiet;
	unsigned verbose;
};

struct cli_command {
	const char *name;
	const char *operand; /* "PID" */
	const char *summary;
	const char *details; /* paragraph of the help */
	const struct cli_option *option;
	int (*run)(const struct cli_command *self, int argc, char **argv); /* the exit status */
};

extern const struct cli_command cmd_dump, cmd_restore, cmd_check, cmd_info, cmd_verify, cmd_flatten;

/* ---- options.c ---- */

#define CLI_GO_ON (-1)

/* Reads options, giving the command's own to set() (0, or -1 after cli_usage_error()), and the one
 * operand. set may be NULL when the command has no option. Returns CLI_GO_ON, or the exit status
 * when all is said (--help, a usage error). */
int cli_parse(const struct cli_command *c, int argc, char **argv,
	      int (*set)(void *data, int key, const char *arg), void *data,
	      struct cli_common *ret_common, const char **ret_operand);
int cli_usage_error(const struct cli_command *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* 0 or -1 when text is not wholly a number in range. Sizes may end in K, M, G or T (powers of
 * 1024). */
int cli_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
int cli_parse_size(const char *text, uint64_t *ret);
/* Seconds, with a fraction and one of the letters s, m, h if need be. */
int cli_parse_time(const char *text, uint64_t *ret_ms);
int cli_parse_pid(const char *text, pid_t *ret);
/* -j: 0, or -1 after a usage error. */
int cli_set_jobs(const struct cli_command *c, unsigned *ret, const char *text);

/* "TERM", "SIGTERM" or "15"; 0: none. */
int cli_parse_signal(const char *text);

/* ---- clones.c: what became of restore --copies ---- */

/* 0 if all ended with 0. */
int clones_status(const struct cpx_result *r);
json_t *clones_to_json(const struct cpx_restore_options *o, const struct cpx_result *r);
/* Detached: the PIDs, a line each; else the table. */
void clones_print(const struct cpx_restore_options *o, const struct cpx_result *r);
/* --compress: 0, or -1 after a usage error. */
int cli_set_compress(const struct cli_command *c, enum cpx_compress *ret, int *ret_level, const char *text);

/* --parent: files to look in for images that deltas build on. */
struct cli_parents {
	const char *file[1024];
	size_t n;
};
#define CLI_PARENT_HELP "look there for an image that this one builds on; may be given again"
/* 0, or -1 after a usage error. */
int cli_add_parent(const struct cli_command *c, struct cli_parents *parents, const char *file);
struct cpx_parents cli_parents(const struct cli_parents *parents);

/* ---- pipes.c: --external-pipe ---- */

struct cli_pipes {
	struct cpx_external_pipe item[64];
	size_t n;
};
/* 0, or -1 after a usage error. */
int cli_add_pipe(const struct cli_command *c, struct cli_pipes *pipes, const char *text);

/* ---- report.c ---- */

void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_set_log(const struct cli_common *common);

/* Prints the error and all refusals of r as lines on stderr. Returns the exit status. */
int cli_report(const struct cpx_result *r);
/* An object with outcome, error and refusals, to which the command adds its own results. */
json_t *cli_json(const struct cpx_result *r);
/* A string, whatever bytes are in it. */
json_t *cli_json_text(const char *text);
/* Prints the object on stdout, frees it, returns status, or 1 when it cannot be written. */
int cli_print_json(json_t *object, int status);
/* Flushes stdout; returns status, or 1 when something could not be written. */
int cli_finish_stdout(int status);
/* "1.5 GiB" */
const char *cli_format_bytes(uint64_t bytes, char *buf, size_t size);

/* ---- progress.c: a bar on stderr, if that is a terminal ---- */

struct cli_progress {
	bool is_shown;
	uint64_t drawn_at_ns;
};
struct cpx_progress cli_progress_start(struct cli_progress *p, const struct cli_common *common);
void cli_progress_end(struct cli_progress *p);

#endif
