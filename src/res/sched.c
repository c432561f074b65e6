/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scheduling of each thread: policy, nice value, real-time priority, deadline, CPU affinity, I/O
 * priority. Reads sched_getattr(2), sched_getaffinity(2) and ioprio_get(2) from outside.
 *
 * A thread that may run on every CPU is recorded without an affinity and gets every CPU again,
 * however many the other machine has. Cannot keep: utilization clamps, core scheduling cookies, a
 * slice equal to cpx's own.
 */
#include "res/attr.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_CLASS_SHIFT 13
#define IOPRIO_CLASS(p)	   ((p) >> IOPRIO_CLASS_SHIFT)
#define IOPRIO_CLASS_RT	   1
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define CPU_BYTES 1024 /* CONFIG_NR_CPUS is at most 8192 */

/* struct sched_attr of include/uapi/linux/sched/types.h, version 0 */
struct attr_v0 {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static bool is_fair(uint32_t policy)
{
	return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE;
}

static bool is_realtime(uint32_t policy)
{
	return policy == SCHED_FIFO || policy == SCHED_RR;
}

/* A nice value is there under every policy, but sched_getattr(2) shows it for fair ones only. */
static int get_attr(pid_t tid, struct attr_v0 *ret, struct err *err)
{
	long nice = syscall(SYS_getpriority, PRIO_PROCESS, tid); /* 20 - nice */

	*ret = (struct attr_v0){.size = sizeof(*ret)};
	if (nice < 0 || syscall(SYS_sched_getattr, tid, ret, sizeof(*ret), 0) < 0)
		return err_sys(err, -errno, "cannot read the scheduling policy of thread %d", tid);
	ret->nice = 20 - (int)nice;
	return 0;
}

/* ---- affinity ---- */

/* Bytes up to the last CPU that is set. */
static size_t used_bytes(const uint8_t *mask, size_t len)
{
	while (len && !mask[len - 1])
		len--;
	return len;
}

static int get_affinity(pid_t tid, uint8_t mask[CPU_BYTES], struct err *err)
{
	memset(mask, 0, CPU_BYTES);
	if (syscall(SYS_sched_getaffinity, tid, CPU_BYTES, mask) < 0)
		return err_sys(err, -errno, "cannot read the CPU affinity of thread %d", tid);
	return 0;
}

/* The kernel knows no "all": a thread has it if no configured CPU is missing. */
static bool is_every_cpu(const uint8_t *mask, long cpus)
{
	for (long cpu = 0; cpu < cpus && cpu < 8 * CPU_BYTES; cpu++)
		if (!(mask[cpu / 8] >> (cpu % 8) & 1))
			return false;
	return cpus > 0;
}

uint64_t sched_own_slice(void)
{
	struct attr_v0 own;

	return get_attr(0, &own, NULL) == 0 && is_fair(own.policy) ? own.runtime : 0;
}

static int sched_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		      Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	const struct attr_host *host;
	struct attr_v0 attr;
	uint8_t mask[CPU_BYTES];
	long ioprio;
	int r = get_attr(thread->tid, &attr, err);

	if (r == 0)
		r = get_affinity(thread->tid, mask, err);
	if (r == 0)
		r = attr_host(c, &host, err);
	if (r < 0)
		return r;
	ioprio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread->tid);
	if (ioprio < 0)
		return err_sys(err, -errno, "cannot read the I/O priority of thread %d",
			       thread->tid);
	th->sched = MSG_NEW(Cpx__Sched, cpx__sched__init);
	if (!th->sched)
		return err_nomem(err);
	th->sched->policy = attr.policy;
	th->sched->flags = attr.flags;
	th->sched->nice = attr.nice;
	th->sched->priority = attr.priority;
	/* Since 6.12 fair threads show their slice here; a value that is set counts as chosen. */
	th->sched->runtime = is_fair(attr.policy) && attr.runtime == host->slice ? 0 : attr.runtime;
	th->sched->deadline = attr.deadline;
	th->sched->period = attr.period;
	th->sched->ioprio = ioprio;
	if (!is_every_cpu(mask, host->cpus) &&
	    msg_set_bytes(&th->sched->affinity, mask, used_bytes(mask, sizeof(mask))) < 0)
		return err_nomem(err);
	return 0;
}

/* ---- restore ---- */

/* The CPUs of the record that exist here; *ret_len 0: none. Without a record: all. */
static void existing_cpus(const Cpx__Sched *s, uint8_t mask[CPU_BYTES], size_t *ret_len)
{
	memset(mask, s->affinity.len ? 0 : 0xff, CPU_BYTES);
	*ret_len = CPU_BYTES;
	if (!s->affinity.len)
		return;
	memcpy(mask, s->affinity.data, MIN(s->affinity.len, (size_t)CPU_BYTES));
	for (long cpu = sysconf(_SC_NPROCESSORS_CONF); cpu >= 0 && cpu < 8 * CPU_BYTES; cpu++)
		mask[cpu / 8] &= ~(1 << cpu % 8);
	*ret_len = used_bytes(mask, CPU_BYTES);
}

/* Only the kernel knows which CPUs our cpuset allows: tries the mask on ourselves. */
static bool is_allowed(const uint8_t *mask)
{
	uint8_t ours[CPU_BYTES];
	bool is_good;

	if (get_affinity(0, ours, NULL) < 0)
		return true;
	is_good = syscall(SYS_sched_setaffinity, 0, CPU_BYTES, mask) == 0 || errno != EINVAL;
	syscall(SYS_sched_setaffinity, 0, CPU_BYTES, ours);
	return is_good;
}

static uint64_t own_rlimit(int resource)
{
	struct rlimit l;

	return getrlimit(resource, &l) < 0 ? 0 : l.rlim_cur;
}

/* kernel/sched/syscalls.c, user_check_sched_setscheduler(). */
static const char *why_denied(struct restore_ctx *c, const Cpx__Sched *s)
{
	struct attr_v0 own;

	if (attr_can_globally(c, CAP_SYS_NICE) || get_attr(0, &own, NULL) < 0)
		return NULL;
	if (s->policy == SCHED_DEADLINE)
		return "deadline scheduling";
	if (is_realtime(s->policy) && s->policy != own.policy && !own_rlimit(RLIMIT_RTPRIO))
		return "a real-time policy";
	if (is_realtime(s->policy) && s->priority > own.priority &&
	    s->priority > own_rlimit(RLIMIT_RTPRIO))
		return "its real-time priority";
	if (s->nice < own.nice && (uint64_t)(20 - s->nice) > own_rlimit(RLIMIT_NICE))
		return "its nice value";
	if (own.policy == SCHED_IDLE && s->policy != SCHED_IDLE &&
	    (uint64_t)(20 - own.nice) > own_rlimit(RLIMIT_NICE))
		return "leaving the idle policy";
	if (IOPRIO_CLASS(s->ioprio) == IOPRIO_CLASS_RT && !attr_can_globally(c, CAP_SYS_ADMIN))
		return "its real-time I/O priority";
	return NULL;
}

static int sched_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		       struct err *err)
{
	uint8_t mask[CPU_BYTES];
	char object[64];
	const char *why;
	size_t len;

	if (!th->sched)
		return 0;
	snprintf(object, sizeof(object), "scheduling of thread %u", th->tid);
	why = why_denied(c, th->sched);
	if (why && attr_refuse_restore(c, task, object, err,
				       "cannot be restored: %s needs cap_sys_nice", why) < 0)
		return -ENOMEM;
	existing_cpus(th->sched, mask, &len);
	if (len && (!th->sched->affinity.len || is_allowed(mask)))
		return 0;
	return attr_refuse_restore(c, task, object, err,
				   "cannot be restored: none of the CPUs that it is bound to "
				   "exists here or is allowed");
}

static void give_affinity(const Cpx__Sched *s, struct batch *b)
{
	uint8_t mask[CPU_BYTES];
	size_t len;

	existing_cpus(s, mask, &len);
	BATCH_CALL(b, SYS_sched_setaffinity, 0, ALIGN_UP(len, 8),
		   batch_in(b, mask, ALIGN_UP(len, 8)));
}

static int give_policy(const Cpx__Sched *s, struct batch *b, struct err *err)
{
	struct attr_v0 own, attr = {
				    .size = sizeof(attr),
				    .policy = s->policy,
				    .flags = s->flags,
				    .nice = s->nice,
				    .priority = s->priority,
				    .runtime = s->runtime,
				    .deadline = s->deadline,
				    .period = s->period,
			    };
	int r = get_attr(0, &own, err);

	if (r < 0)
		return r;
	if (is_fair(own.policy) && is_fair(s->policy))
		own.runtime = 0;
	if (memcmp(&own, &attr, sizeof(own)))
		BATCH_CALL(b, SYS_sched_setattr, 0, batch_in(b, &attr, sizeof(attr)), 0);
	if (own.nice != s->nice) /* sched_setattr() takes it for SCHED_OTHER and SCHED_BATCH only */
		BATCH_CALL(b, SYS_setpriority, PRIO_PROCESS, 0, s->nice);
	return 0;
}

/* Deadline scheduling wants every CPU, so the affinity comes first. The class "none" cannot be told
 * from never having been set. */
static int sched_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		      const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const Cpx__Sched *s = th->sched;
	long own_ioprio;
	int r;

	if (!s || stage != GIVE_MAIN)
		return 0;
	give_affinity(s, b);
	r = give_policy(s, b, err);
	if (r < 0)
		return r;
	own_ioprio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
	if (IOPRIO_CLASS(s->ioprio))
		BATCH_CALL(b, SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, s->ioprio);
	else if (own_ioprio < 0 || IOPRIO_CLASS(own_ioprio))
		BATCH_CALL(b, SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
	return 0;
}

static int sched_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		       const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
		       struct err *err)
{
	static const struct {
		uint64_t nr;
		const char *what;
	} calls[] = {
		{SYS_sched_setaffinity, "set the CPU affinity"},
		{SYS_sched_setattr, "set the scheduling policy"},
		{SYS_setpriority, "set the nice value"},
		{SYS_ioprio_set, "set the I/O priority"},
	};

	for (unsigned i = 0; i < b->n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(calls); k++)
			if (b->call[i].nr == calls[k].nr && b->call[i].ret < 0)
				return err_sys(err, b->call[i].ret, "cannot %s", calls[k].what);
	return 0;
}

const struct attr_ops sched_attr_ops = {
	.name = "scheduling",
	.per_thread = true,
	.read = sched_read,
	.check = sched_check,
	.give = sched_give,
	.given = sched_given,
};
