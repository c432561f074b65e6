/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files about shared content: objects.c (dump), objects_restore.c, sysvshm.c. */
#ifndef CPX_RES_OBJECTS_H
#define CPX_RES_OBJECTS_H

#include "base/util.h"
#include "res/files.h"

#define OBJECT_ID_BASE 1000000U

/* A part of an object that a task shows at an address. */
struct object_view {
	pid_t pid;
	uint64_t addr, len, offset;
	bool is_private; /* pages that the task has changed are its own, not the object's */
};

struct object_entry {
	Cpx__Object *object; /* owned */
	uint64_t dev, ino;
	int source; /* of the content, readable, a description of our own unless is_borrowed_offset;
		       -1: views */
	bool is_borrowed_offset; /* shares its position with the application: never to be moved */
	struct object_view *view;
	size_t nviews, maxviews;
	int copy;	   /* memfd with the content at the same offsets, -1 */
	uint64_t attached; /* SYSV: mappings in the tree */
	struct tracee *t;  /* the first task that has it */
};

struct object_table {
	struct object_entry *entry;
	size_t n, max;
};

/* objects_add() with every property of the view. */
int objects_add_view(struct dump_ctx *c, struct tracee *t, Cpx__Object__Type type, uint64_t dev,
		     uint64_t ino, uint64_t size, int dup, const struct object_view *view,
		     Cpx__Object **ret, struct err *err);
/* When all mappings are known, the tree frozen: refuses what is shared with processes outside. */
int objects_complete(struct dump_ctx *c, struct err *err);

/* ---- sysvshm.c ---- */
/* Refuses a segment that others have attached too. */
int sysvshm_complete(struct dump_ctx *c, const struct object_entry *e);
int sysvshm_dump(struct dump_ctx *c, const struct tracee *t, int shmid, Cpx__Object *o,
		 struct err *err);
int sysvshm_check(struct restore_ctx *c, const Cpx__Object *o, struct err *err);
/* Makes or takes over the segment and attaches it: *ret_map. */
int sysvshm_create(struct restore_ctx *c, const Cpx__Object *o, int *ret_shmid, void **ret_map,
		   struct err *err);
int sysvshm_finish(const Cpx__Object *o, int shmid, struct err *err);

/* ---- objects_restore.c ---- */
size_t objects_index(const struct restore_ctx *c, uint32_t id);

#endif
