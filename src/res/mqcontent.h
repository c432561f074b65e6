/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* POSIX message queues: shared by mqueue.c, mqcontent.c (messages) and mqnotify.c (mq_notify). */
#ifndef CPX_RES_MQCONTENT_H
#define CPX_RES_MQCONTENT_H

#include "res/files.h"

/* Records the n messages of a queue that nobody outside of the tree has open, or refuses. The tree is frozen and
 * injected. */
int mqcontent_dump(struct dump_ctx *c, Cpx__File *f, size_t n, struct err *err);
/* Whether a batch of t can copy results into its own later calls, and the number that its next descriptor gets. */
int mqcontent_may_copy(struct tracee *t, bool *ret, struct err *err);
int mqcontent_free_fd(struct dump_ctx *c, const struct tracee *t, int *ret, struct err *err);
/* Another process that has the queue open, 0: none that we may see. */
pid_t mqcontent_user(const struct restore_ctx *c, int fd);
/* Empties a queue that is still there, before the tree has it. */
int mqcontent_clear(struct restore_ctx *c, const Cpx__Mqueue *q, int fd, struct err *err);
/* fd: to write, O_NONBLOCK. */
int mqcontent_fill(const Cpx__Mqueue *q, int fd, struct err *err);

/* Is anybody to be told of a message? fd: of the queue. */
int mqnotify_is_on(int fd, bool *ret, struct err *err);
/* When all descriptors are known, of a queue that nobody outside has open: records who is, with one of his descriptors, or
 * refuses. f, fd: any of the queue. */
int mqnotify_dump(struct dump_ctx *c, Cpx__File *f, int fd, long nmessages, struct err *err);
void mqnotify_settle(const Cpx__Mqueue *q, const Cpx__Task *task, int fd, struct batch *b);

#endif
