/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files about io_uring: uring.c, uringlook.c and uringref.c (dump), uringmake.c and
 * uringplace.c (restore). */
#ifndef CPX_RES_URING_H
#define CPX_RES_URING_H

#include "base/util.h"
#include "proc/proc.h"
#include "res/files.h"

#include <linux/io_uring.h>

/* A mapping of rings in a task of the tree. */
struct uring_map {
	Cpx__Vma *vma;	  /* borrowed from its Mm */
	struct tracee *t; /* the owner of the address space */
	uint64_t dev, ino;
};

bool uring_is_map(const struct proc_vma *v);
int uring_add_map(struct dump_ctx *c, struct tracee *t, const struct proc_vma *v, Cpx__Vma *vma,
		  struct err *err);
/* The mapping of the head and tail words of this ring in the address space of t; NULL: none. */
const struct uring_map *uring_find_map(const struct dump_ctx *c, const struct tracee *t,
				       uint64_t dev, uint64_t ino);
/* Refuses mappings whose io_uring no task has open. */
int uring_maps_complete(struct dump_ctx *c, struct err *err);

/* ---- uringlook.c ---- */

/* Of one ring: our own view of its memory. */
struct uring_view {
	uint8_t *rings, *sqes; /* mapped */
	size_t rings_map, sqes_map;
	size_t rings_len, sqes_len; /* what there really is behind the mappings */
};

int uring_view_open(int fd, unsigned sq_entries, unsigned cq_entries, struct uring_view *ret,
		    struct err *err);
void uring_view_close(struct uring_view *v);
static inline uint32_t *uring_word(const struct uring_view *v, uint32_t offset)
{
	return (uint32_t *)(v->rings + offset);
}

/* A ring of our own, to see how the kernel lays it out. A descriptor, or -1 and errno. */
int uring_scratch(unsigned sq_entries, unsigned cq_entries, uint32_t flags,
		  struct io_uring_params *p);

struct uring_look {
	struct dump_ctx *c;
	const struct fd_probe *p;
	Cpx__Uring *b;
	const char *info;
	struct uring_view view;
	struct io_uring_params params; /* offsets in view.rings */
	long thread;	 /* index in p->t of the only one that may ask the kernel; -1: anybody */
	bool has_eventfd;
	bool is_refused;
};

/* Finds out the flags that the ring was made with, whose it is, and where things are in its memory;
 * sets is_refused if it has state that cannot be carried. */
int uring_look(struct uring_look *l, struct err *err);

/* ---- uringpoll.c: rings with a thread of the kernel (SQPOLL) ---- */

/* Notes the thread, and refuses what it may be at. */
int uring_read_thread(struct uring_look *l, struct err *err);
int uring_thread_complete(struct dump_ctx *c, Cpx__File *f, struct err *err);
int uring_thread_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
/* Makes the ring in the thread of the task, at number fd there and in us. */
int uring_thread_make(const struct rings_host *h, const Cpx__File *f, const Cpx__Task *task,
		      uint32_t flags, int fd, struct err *err);

/* ---- uringref.c ---- */

/* Notes the registered buffers and counts the files. */
int uring_read_registered(struct uring_look *l, struct err *err);
/* IORING_REGISTER_RING_FDS of all threads of the task. */
int uring_read_slots(struct uring_look *l, struct err *err);
int uring_complete(struct dump_ctx *c, Cpx__File *f, struct err *err);

/* ---- uringmake.c, uringplace.c ---- */

int uring_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
int uring_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err);
/* Maps rings in a task where they were. */
int uring_place(const struct rings_host *h, const Cpx__Task *task, const Cpx__Vma *v, int fd,
		struct err *err);

#endif
