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
};

/* Runs body(arg, channel) as the coordinator and _exits with its result. *ret_channel: our end.
 * The coordinator dies with us until it calls nspace_survive(). */
int nspace_start(const struct plan *p, int (*body)(void *arg, int channel), void *arg,
		 pid_t *ret_pid, int *ret_channel, struct err *err);
int nspace_survive(struct err *err);

/* pidfd: sent along (the root's), -1: none. */
int report_send(int channel, const struct report *r, int pidfd, struct err *err);
/* *ret_pidfd -1 if none came. -EPIPE when the coordinator is gone. */
int report_receive(int channel, struct report *ret, int *ret_pidfd, struct err *err);

/* The PID behind a pidfd, as we see it. */
int pidfd_to_pid(int pidfd, pid_t *ret, struct err *err);

#endif
