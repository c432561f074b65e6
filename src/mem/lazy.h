/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that is still in the image while the tree runs already: which pages may wait (lazychoose.c),
 * and where each of them is while the tree moves, drops and forks its memory (lazyspace.c). No
 * process, no descriptor: what is done with it stands in src/engine.
 *
 * The state lies in memory that two processes share, of which either may be killed at any
 * instruction. So whatever is not the same when it is done twice takes effect by one store.
 */
#ifndef CPX_MEM_LAZY_H
#define CPX_MEM_LAZY_H

#include "base/err.h"
#include "image/image.h"

#include <linux/userfaultfd.h>

/* ---- lazychoose.c ---- */

#define LAZY_WORDS (CHUNK_MAX / 4096 / 64) /* of a bitmap of a chunk's pages */

/* ---- lazybits.c: ranges [a, b) of pages in such a bitmap ---- */
bool lazy_bits_any(const uint64_t *m, unsigned a, unsigned b);
void lazy_bits_set(uint64_t *m, unsigned a, unsigned b);
unsigned lazy_bits_clear(uint64_t *m, unsigned a, unsigned b); /* how many were set */
/* Pages from a on that are as a is: set or not. */
unsigned lazy_bits_run(const uint64_t *m, unsigned a, unsigned b, bool *ret_set);

/* Which pages may be filled while the tree runs. */
struct lazy_choice {
	uint64_t (*page)[LAZY_WORDS]; /* of each of image->chunk, by their offset in it */
	uint64_t bytes;		      /* chosen */
	/* image->chunk without them: what is to be filled before. */
	struct chunk_ref *rest;
	struct piece *pieces;
};
int lazy_choose(const struct image *im, struct lazy_choice *ret, struct err *err);
void lazy_choice_release(struct lazy_choice *c);

/* A stretch of an mm, within one mapping, and the bytes of a chunk that belong there. */
struct lazy_span {
	uint64_t addr, len;
	uint32_t chunk, from;
};
struct lazy_spans {
	struct lazy_span *span; /* ascending */
	size_t n, max;
};
/* What of an mm's memory is chosen. */
int lazy_collect(const struct image *im, const struct lazy_choice *c, uint32_t mm,
		 struct lazy_spans *ret, struct err *err);

/* ---- lazyspace.c ---- */

#define LAZY_SPACES	16384
#define LAZY_MAX_STOPPED 4096

struct lazy_table {
	uint64_t seq; /* of the event that made it */
	size_t n;
	struct lazy_span span[];
};

/* An address space. */
struct lazy_space {
	enum { LAZY_UNUSED, LAZY_WAITING, LAZY_LIVE, LAZY_ENDED } state;
	int uffd;	/* WAITING: none yet */
	uint32_t mm;	/* id in the image; of a child born since: its ancestor's */
	uint64_t seq;	/* of the event that made it */
	struct lazy_table *table;
	uint64_t (*undone)[LAZY_WORDS]; /* by chunk - first: pages that are still to be filled */
	uint32_t first, nchunks;
	uint64_t left;	/* pages */
	size_t cursor;	/* all spans before are done */
};

struct lazy_state {
	uint64_t size, used; /* of all the shared memory, this struct being its start */
	/* The message under way; event 0: none. */
	struct uffd_msg msg;
	uint32_t msg_space;
	uint64_t seq;
	uint32_t nspaces;
	bool is_committed, is_done, is_stopped;
	uint32_t nstopped;
	int stopped[LAZY_MAX_STOPPED]; /* pidfds of those whom we have stopped */
	struct lazy_space space[LAZY_SPACES];
};

int lazy_state_new(struct lazy_state **ret, struct err *err);
void lazy_state_free(struct lazy_state *st);
/* The space of an mm, WAITING. */
int lazy_space_add(struct lazy_state *st, const struct image *im, const struct lazy_choice *c,
		   uint32_t mm, struct err *err);
/* Its memory goes; the uffd is the caller's. */
void lazy_space_end(struct lazy_space *s);
/* After a death amid the counting. */
void lazy_space_recount(struct lazy_space *s);

/* Undone pages that follow each other in memory and in one chunk: those from addr on; *ret is empty if
 * addr is not one. And the first of all, of max bytes at most: false if none is left. */
void lazy_find(const struct lazy_space *s, uint64_t addr, uint64_t max, struct lazy_span *ret);
bool lazy_next(struct lazy_space *s, uint64_t max, struct lazy_span *ret);
/* The first len bytes of such a run are there, or not wanted any more. */
void lazy_done(struct lazy_space *s, const struct lazy_span *run, uint64_t len);

/* What the tree did: dropped or unmapped (the same to us: it is never filled again), moved, forked. */
void lazy_drop(struct lazy_space *s, uint64_t start, uint64_t end);
int lazy_move(struct lazy_state *st, struct lazy_space *s, uint64_t from, uint64_t to, uint64_t len,
	      struct err *err);
int lazy_fork(struct lazy_state *st, const struct lazy_space *parent, int uffd,
	      struct lazy_space **ret, struct err *err);

#endif
