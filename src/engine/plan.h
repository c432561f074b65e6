/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan of a restore: where PIDs, clocks, the terminal and rights come from. Made, and all
 * refusals collected, before anything is created.
 */
#ifndef CPX_ENGINE_PLAN_H
#define CPX_ENGINE_PLAN_H

#include "base/err.h"
#include "cpx.h"
#include "image/image.h"
#include "res/res.h"

struct plan {
	bool new_pid_ns, new_user_ns, new_time_ns;
	bool new_ipc_ns; /* with new_pid_ns: the ids of SysV objects are free there */
	bool new_devpts; /* with new_pid_ns: the numbers of pseudo-terminals are free there */
	int64_t monotonic_offset_ns, boottime_offset_ns; /* of the new time namespace */
	size_t lanes; /* of the mailbox */
};

int plan_make(const struct image *im, const struct cpx_restore_options *o, struct plan *ret,
	      struct refusals *refusals, struct err *err);

/* Is there a task, a thread or a process group of this number? */
bool plan_is_pid_seen(pid_t pid);

/* Everything that the resources refuse. */
int plan_check_resources(struct restore_ctx *c, struct err *err);

/* Room in RLIMIT_NOFILE for the descriptors that cpx opens for the tree: raises the soft limit. */
int plan_raise_nofile(struct restore_ctx *c, struct err *err);

#endif
