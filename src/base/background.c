/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sched_setattr(2): SCHED_BATCH and a nice value. Threads under SCHED_IDLE are behind all others already. */
#include "base/background.h"

#include "base/log.h"
#include "base/util.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* struct sched_attr of include/uapi/linux/sched/types.h, version 0 */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

void background_thread(pid_t tid)
{
	struct attr now = {.size = sizeof(now)}, then = {.size = sizeof(then), .policy = SCHED_BATCH};
	long nice = syscall(SYS_getpriority, PRIO_PROCESS, tid); /* 20 - nice, under any policy */

	if (nice < 0 || syscall(SYS_sched_getattr, tid, &now, sizeof(now), 0) < 0 ||
	    now.policy == SCHED_IDLE)
		return;
	then.nice = MIN(20 - (int)nice + BACKGROUND_NICE, 19);
	if (syscall(SYS_sched_setattr, tid, &then, 0) < 0)
		log_debug("thread %d keeps its priority: %s", tid, strerror(errno));
}
