/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resource limits, all sixteen. Reads /proc/TID/limits.
 *
 * While a task is being built its limits are as loose as they may be (GIVE_EARLY: hard limits that
 * must rise do so here, with our privilege); the recorded ones come last, so that none of them
 * hinders the rebuilding of what the task had already.
 */
#include "res/attr.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static const char *const limit_name[PROC_NLIMITS] = {
	[RLIMIT_CPU] = "RLIMIT_CPU",	       [RLIMIT_FSIZE] = "RLIMIT_FSIZE",
	[RLIMIT_DATA] = "RLIMIT_DATA",	       [RLIMIT_STACK] = "RLIMIT_STACK",
	[RLIMIT_CORE] = "RLIMIT_CORE",	       [RLIMIT_RSS] = "RLIMIT_RSS",
	[RLIMIT_NPROC] = "RLIMIT_NPROC",       [RLIMIT_NOFILE] = "RLIMIT_NOFILE",
	[RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",   [RLIMIT_AS] = "RLIMIT_AS",
	[RLIMIT_LOCKS] = "RLIMIT_LOCKS",       [RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
	[RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE", [RLIMIT_NICE] = "RLIMIT_NICE",
	[RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",     [RLIMIT_RTTIME] = "RLIMIT_RTTIME",
};

static int add_limit(Cpx__Task *task, unsigned resource, const struct proc_limit *l,
		     struct err *err)
{
	Cpx__Rlimit *limit = MSG_NEW(Cpx__Rlimit, cpx__rlimit__init);

	if (!limit || msg_append(&task->rlimit, &task->n_rlimit, limit) < 0) {
		free(limit);
		return err_nomem(err);
	}
	limit->resource = resource;
	limit->soft = l->soft;
	limit->hard = l->hard;
	return 0;
}

static int rlimits_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	struct proc_limit limit[PROC_NLIMITS] = {0};
	_cleanup_close_ int dir = -1;
	int r = attr_open(c, t, NULL, &dir, err);

	if (r == 0)
		r = proc_limits(dir, limit, err);
	for (unsigned i = 0; i < PROC_NLIMITS && r == 0; i++)
		if (limit[i].is_known)
			r = add_limit(task, i, &limit[i], err);
	return r;
}

static int own_limit(unsigned resource, struct rlimit *ret, struct err *err)
{
	if (syscall(SYS_prlimit64, 0, resource, NULL, ret) < 0)
		return err_sys(err, -errno, "cannot read our %s", limit_name[resource]);
	return 0;
}

static int rlimits_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			 struct err *err)
{
	for (size_t i = 0; i < task->n_rlimit; i++) {
		const Cpx__Rlimit *l = task->rlimit[i];
		struct rlimit own;
		int r;

		if (l->resource >= PROC_NLIMITS || l->soft > l->hard)
			return err_set(err, -EBADMSG, "a limit of task %u is malformed", task->pid);
		r = own_limit(l->resource, &own, err);
		if (r < 0)
			return r;
		if (l->hard <= own.rlim_max || attr_can_globally(c, CAP_SYS_RESOURCE))
			continue;
		r = attr_refuse_restore(
			c, task, limit_name[l->resource], err,
			"cannot be restored: its hard limit of %lld is above that of cpx (%lld); "
			"raise that (ulimit -H) or restore with cap_sys_resource",
			(long long)l->hard, (long long)own.rlim_max);
		if (r < 0)
			return r;
	}
	return 0;
}

static void set_limit(struct batch *b, unsigned resource, uint64_t soft, uint64_t hard)
{
	struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};

	BATCH_CALL(b, SYS_prlimit64, 0, resource, batch_in(b, &limit, sizeof(limit)), 0);
}

static int loosen(const Cpx__Rlimit *l, struct batch *b, struct err *err)
{
	struct rlimit own;
	int r = own_limit(l->resource, &own, err);

	if (r == 0 && (l->hard > own.rlim_max || own.rlim_cur != own.rlim_max))
		set_limit(b, l->resource, MAX(l->hard, own.rlim_max), MAX(l->hard, own.rlim_max));
	return r;
}

static int rlimits_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < task->n_rlimit && r == 0; i++) {
		const Cpx__Rlimit *l = task->rlimit[i];

		if (stage == GIVE_EARLY)
			r = loosen(l, b, err);
		else if (stage == GIVE_LATE)
			set_limit(b, l->resource, l->soft, l->hard);
	}
	return r;
}

static int rlimits_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			 const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
			 struct err *err)
{
	for (unsigned i = 0; i < b->n; i++) {
		const struct call *call = &b->call[i];

		if (call->nr == SYS_prlimit64 && call->ret < 0 && call->arg[1] < PROC_NLIMITS)
			return err_sys(err, call->ret, "cannot set %s", limit_name[call->arg[1]]);
	}
	return 0;
}

const struct attr_ops rlimits_attr_ops = {
	.name = "limits",
	.read = rlimits_read,
	.check = rlimits_check,
	.give = rlimits_give,
	.given = rlimits_given,
};
