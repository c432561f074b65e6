/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Write tracking of a tree from one image of it to the next (dump --every). Belongs to the caller of several dumps,
 * and outlives their sessions.
 */
#ifndef CPX_ENGINE_VIGIL_H
#define CPX_ENGINE_VIGIL_H

#include "mem/mem.h"

struct session;

struct vigil {
	struct tracked **item; /* of the address spaces that are watched */
	size_t n, max;
	pid_t *hopeless; /* tasks that cannot be */
	size_t nhopeless, max_hopeless;
	bool wants_more; /* there may be tasks that could be watched, and are not */
	char why_not[128]; /* not all are watched; empty: all are */
	uint8_t id[16];  /* of the last image that is complete */
};
#define VIGIL_INIT {.wants_more = true}

/* Nobody is watched any more. */
void vigil_end(struct vigil *w, pid_t root, bool no_children);

/* Stages; without job.vigil they do nothing. */
int vigil_begin(struct session *s, struct err *err); /* watches who is not watched yet, marks what has changed */
int vigil_check(struct session *s, struct err *err); /* frozen: forgets address spaces that are no more */
int vigil_take(struct session *s, struct err *err);  /* frozen: says what need not be stored (dump_mm.tracked) */
void vigil_settle(struct session *s);		     /* the image is complete */

/* Is this mapping watched by us? (dump_ctx.is_watched) */
bool vigil_watches(const void *vigil, pid_t pid, uint64_t start, uint64_t end);

#endif
