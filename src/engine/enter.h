/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dumping a tree that runs in namespaces which an earlier restore made for it: the work is done by
 * a child of ours inside of them, so that every number and path is what the tree itself sees.
 */
#ifndef CPX_ENGINE_ENTER_H
#define CPX_ENGINE_ENTER_H

#include "base/err.h"
#include "cpx.h"

struct enter_plan {
	pid_t pid; /* of the root where the work is done */
	int flags; /* CLONE_NEW* to be entered; 0: none, the work is done right here */
	int dir;   /* /proc of a thread of the root; owned */
	int home;  /* inside: where the result goes; -1: outside, or sent already */
};
#define ENTER_PLAN_INIT {.dir = -1, .home = -1}

/* Which namespaces of root are others than ours and can be entered: made like those of a restore,
 * with the same users, groups and mounts as ours. The others are left to be refused. */
int enter_plan_make(pid_t root, struct enter_plan *ret, struct err *err);
void enter_plan_release(struct enter_plan *p);

/* Runs fn there and brings its result home into r. Returns what fn returned, or -errno with err
 * when it could not run. */
int enter_run(struct enter_plan *p, int (*fn)(void *arg, struct cpx_result *r), void *arg,
	      struct cpx_result *r, struct err *err);

/* Inside, before something that may end us too (with its init a PID namespace ends): sends the
 * result now. Nothing happens outside. */
void enter_report(struct enter_plan *p, int ret, const struct cpx_result *r);

#endif
