/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* external.c: pipes and connections whose other end lies outside of the tree. */
#ifndef CPX_RES_EXTERNAL_H
#define CPX_RES_EXTERNAL_H

#include "res/files.h"

/* What is to stand for a pipe: an option of the user's. */
struct external_rule {
	uint64_t ino; /* 0: all that no other rule names */
	Cpx__External__What what;
	bool same_number;
	uint32_t fd;
	const char *path; /* borrowed */
};

struct external_rules {
	struct external_rule *rule; /* owned */
	size_t n;
	bool unix_too; /* dump: connections are made again by name */
};

/* ---- dump ---- */

/* A process outside has this pipe too; mode: the bits of its link, which tell which end. 1: the
 * user accepts that, and it is recorded. 0: he does not, or the tree has both ends. */
int external_pipe_take(struct dump_ctx *c, Cpx__File *f, pid_t pid, const char *comm, mode_t mode,
		       struct err *err);
/* The same of an end that nobody shows: pid 0. Then refuses what cannot be carried across. */
int external_pipe_complete(struct dump_ctx *c, Cpx__File *f, struct err *err);

/* ---- restore ---- */

/* The record of the pipe that tells of the other end, NULL: it was in the tree. */
const Cpx__File *external_head(const struct restore_ctx *c, const Cpx__File *f);
int external_pipe_check(struct restore_ctx *c, const Cpx__File *f, const Cpx__File *head,
			struct err *err);
/* Opens what stands for it, for all records of the pipe. 1: it is to be made as a pipe, with what
 * is in it and without its other end. */
int external_pipe_open(struct restore_ctx *c, const Cpx__File *head, struct err *err);
/* Refuses rules that name pipes which the image does not have. */
int external_rules_check(struct restore_ctx *c, struct err *err);

#endif
