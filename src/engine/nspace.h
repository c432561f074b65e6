/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The coordinator in namespaces of its own, and its channel to the cpx that the user started.
 *
 *   cpx ── starter (makes the user and the time namespace, ends at once)
 *    └──── coordinator: PID 1 of the new PID namespace, parent of the restored root
 */
#ifndef CPX_ENGINE_NSPACE_H
#define CPX_ENGINE_NSPACE_H

#include "base/err.h"
#include "engine/plan.h"

#include <sys/types.h>

/* What the coordinator tells, in one message each. */
struct report {
	enum { REPORT_RUNNING, REPORT_FAILED, REPORT_STOPPED, REPORT_ENDED } what;
	struct err err; /* REPORT_FAILED */
	int status;	/* REPORT_ENDED: wait status of the root */
	unsigned clone; /* of clones: which, from 1 */
	pid_t pid;	/* REPORT_RUNNING of a clone, to cpx: its root as cpx sees it */
};

/* Runs body(arg, channel) as the coordinator and _exits with its result. *ret_channel: our end.
 * The coordinator dies with us until it calls nspace_survive(). */
int nspace_start(const struct plan *p, int (*body)(void *arg, int channel), void *arg,
		 pid_t *ret_pid, int *ret_channel, struct err *err);
int nspace_survive(struct err *err);

/* The same in steps, for clones: a child that is PID 1 of a new PID namespace, with mounts of its own, and
 * what it is to mount there first. */
pid_t nspace_clone(const struct plan *p);
int nspace_mount(const struct plan *p, struct err *err);
/* A file of its own with this text in place of the one at path, for those in our mount namespace. */
#define NSPACE_OWN_FILE "cpx-own-file" /* the source of that mount */
int nspace_show(const char *path, const char *text, struct err *err);

/* pidfd: sent along (the root's), -1: none. */
int report_send(int channel, const struct report *r, int pidfd, struct err *err);
/* *ret_pidfd -1 if none came. -EPIPE when the coordinator is gone. */
int report_receive(int channel, struct report *ret, int *ret_pidfd, struct err *err);

/* Is the other end still open? What we die with may have ended before we could ask for that. */
bool report_is_heard(int channel);

/* The PID behind a pidfd, as we see it. */
int pidfd_to_pid(int pidfd, pid_t *ret, struct err *err);

#endif
