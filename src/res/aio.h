/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts of asynchronous I/O: aio.c (dump), aiomake.c (restore). */
#ifndef CPX_RES_AIO_H
#define CPX_RES_AIO_H

#include "proc/proc.h"
#include "res/res.h"

/* What the kernel and the program share, at the address that is the context's id; events follow. */
struct aio_head {
	uint32_t id, nr, head, tail, magic, compat, incompat, length;
};

bool aio_is_map(const struct proc_vma *v);
/* Notes the context of this mapping. dir: /proc/PID */
int aio_add(Cpx__Mm *mm, int dir, const Cpx__Vma *vma, struct err *err);
/* When all descriptors are known: reads the events. */
int aio_complete(struct dump_ctx *c, struct err *err);

int aio_make(const struct rings_host *h, struct err *err);

#endif
