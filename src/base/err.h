/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors and refusals.
 *
 * An error is a negative errno returned by the function plus a caller-owned struct err that
 * gathers context on its way up, outermost first: "task 42 (sh): fd 5 (regular): cannot open
 * '/x': No such file or directory". Nobody below src/cli prints or exits.
 *
 * A refusal is not an error: it is something that cpx cannot carry or rebuild. Refusals are
 * collected in a list and reported together.
 */
#ifndef CPX_BASE_ERR_H
#define CPX_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct err {
	int code;       /* negative errno, 0 when unset */
	char msg[1024]; /* UTF-8, no newline, never truncated in the middle of the innermost cause */
};

#define ERR_INIT {0}

/* Sets the message (replacing any) and returns code, which must be negative. The text of the
 * errno is NOT appended. err may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set(), with ": <strerror(-code)>" appended. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<fmt>: " before the message and returns err->code. */
int err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory, always the same words. */
int err_nomem(struct err *err);

struct refusal {
	pid_t pid;     /* 0: not about one task */
	char comm[32]; /* empty when pid is 0 */
	char *object;  /* "fd 7 (io_uring)", "mapping 7f..-7f.. (device /dev/x)"; may be empty */
	char *reason;  /* "cannot be checkpointed: ..." and what would help */
};

struct refusals {
	struct refusal *item;
	size_t n, max;
};

/* Adds one. Returns 0 or -ENOMEM (then the list remembers that it is incomplete and is never
 * empty). object may be NULL. */
int refuse(struct refusals *list, pid_t pid, const char *comm, const char *object,
	   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void refusals_release(struct refusals *list);

/* Writes "task 4242 (redis-server): fd 7 (io_uring): cannot ..." into buf, without "cpx: ". */
void refusal_format(const struct refusal *r, char *buf, size_t size);

#endif
