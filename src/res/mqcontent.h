/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in a POSIX message queue: shared by mqueue.c and mqcontent.c. */
#ifndef CPX_RES_MQCONTENT_H
#define CPX_RES_MQCONTENT_H

#include "res/files.h"

/* Records the n messages of a queue that nobody outside of the tree has open, or refuses. The tree is frozen and
 * injected. */
int mqcontent_dump(struct dump_ctx *c, Cpx__File *f, size_t n, struct err *err);
/* Another process that has the queue open, 0: none that we may see. */
pid_t mqcontent_user(const struct restore_ctx *c, int fd);
/* Empties a queue that is still there, before the tree has it. */
int mqcontent_clear(struct restore_ctx *c, const Cpx__Mqueue *q, int fd, struct err *err);
/* fd: to write, O_NONBLOCK. */
int mqcontent_fill(const Cpx__Mqueue *q, int fd, struct err *err);

#endif
