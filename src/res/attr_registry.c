/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The attributes of tasks and threads: one line each. Within a stage they are given in this order:
 *   - POSIX timers have the most calls and so come first, when a batch is empty. A timer is started
 * before the pending signals are queued: it may queue and take signals itself.
 *   - Signal actions drop every stray signal, so (GIVE_MAIN) nothing is queued on purpose before
 * (GIVE_LATE).
 *   - Flags of the task are read before those of its threads, which are compared with them; timer
 * slack is set before a real-time policy makes that impossible.
 *   - Filters of seccomp are installed while the capability for it is there, before credentials.
 *   - Keyrings belong to the final user; no_new_privs forbids most changes of a label.
 *   - rseq comes late: every return to user mode writes its area from then on.
 *   - Limits come last: nothing that the task already has may fall under them.
 */
#include "res/attr.h"

const struct attr_ops *const attr_registry[] = {
	&posix_timers_attr_ops,
	&timer_starts_attr_ops,
	&mm_attr_ops,
	&name_attr_ops,
	&ldt_attr_ops,
	&fs_attr_ops,
	&signals_attr_ops,
	&thread_signals_attr_ops,
	&itimers_attr_ops,
	&process_flags_attr_ops,
	&thread_flags_attr_ops,
	&control_attr_ops,
	&sched_attr_ops,
	&seccomp_attr_ops,
	&creds_attr_ops,
	&keyrings_attr_ops,
	&lsm_attr_ops,
	&landlock_attr_ops,
	&no_new_privs_attr_ops,
	&threadmem_attr_ops,
	&semundo_attr_ops,
	&membarrier_attr_ops,
	&rlimits_attr_ops,
	NULL,
};
