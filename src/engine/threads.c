/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads: cloned by the leader of their task with their old numbers, each into a lane of its own. */
#include "engine/rtree.h"

#include "base/util.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define THREAD_FLAGS \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static void add_clone(struct rtree *rt, struct batch *b, const struct rthread *th)
{
	struct clone_args a = {.flags = THREAD_FLAGS, .set_tid_size = 1};

	a.set_tid = batch_in(b, &th->tid, sizeof(th->tid));
	BATCH_CALL(b, SYS_clone3, batch_in(b, &a, sizeof(a)), sizeof(a), 0, 0, 0,
		   mailbox_lane_remote(&rt->box, th->lane));
}

static int open_lanes(struct rtree *rt, struct rtask *t, struct err *err)
{
	for (size_t i = 1; i < t->msg->n_thread; i++) {
		struct rthread *th = &t->thread[i];

		if (rt->next_lane >= rt->box.nlanes)
			return err_set(err, -ENOSPC, "the mailbox is full");
		*th = (struct rthread){.msg = t->msg->thread[i], .tid = t->msg->thread[i]->tid,
				       .lane = rt->next_lane++};
		lane_init_fresh(mailbox_lane(&rt->box, th->lane));
		t->nthreads++;
	}
	return 0;
}

/* The cursor counts the threads after the leader. */
static int add_clones(struct rtree *rt, struct rtask *t, struct batch *b, size_t *cursor, struct err *err)
{
	for (; *cursor + 1 < t->nthreads; ++*cursor) {
		if (batch_is_tight(b, 4, 1024))
			return 1;
		add_clone(rt, b, &t->thread[*cursor + 1]);
	}
	return 0;
}

static int clone_failed(const struct rthread *th, int code, struct err *err)
{
	return err_sys(err, code, "cannot clone thread %d", th->tid);
}

/* Its number may not be free yet. */
static int clone_again(struct rtree *rt, struct rtask *t, const struct rthread *th, struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int patience = GROW_PATIENCE_MS, r = 0;
	pid_t result = -EEXIST;

	add_clone(rt, &b, th);
	while (r == 0 && grow_may_try_again(result, th->tid, &patience)) {
		r = rtask_run(rt, t, &b, err);
		result = batch_ret(&b, 0);
	}
	return r < 0 || result > 0 ? r : clone_failed(th, result, err);
}

/* A clone that is tried again takes the place of the first call in the lane: those are read from the first to the last. */
static int seize_clones(struct rtree *rt, struct rtask *t, const struct batch *b, size_t from,
			struct err *err)
{
	for (unsigned i = 0; i < b->n; i++) {
		struct rthread *th = &t->thread[from + 1 + i];

		int result = batch_ret(b, i), r = 0;

		if (result == -EEXIST)
			r = clone_again(rt, t, th, err);
		else if (result < 0)
			r = clone_failed(th, result, err);
		if (r < 0)
			return r;
		if (ptrace(PTRACE_SEIZE, th->tid, 0, rt->trace_options) < 0)
			return err_sys(err, -errno, "cannot trace the new thread %d", th->tid);
		th->is_seized = true;
	}
	return 0;
}

int threads_clone(struct rtree *rt, struct err *err)
{
	static const struct round_ops ops = {add_clones, seize_clones};
	_cleanup_free_ struct rtask **task = calloc(rt->n + 1, sizeof(struct rtask *));
	size_t n = 0;
	int r = 0;

	if (!task)
		return err_nomem(err);
	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (rt->task[i]->msg && rt->task[i]->msg->n_thread > 1) {
			r = open_lanes(rt, rt->task[i], err);
			task[n++] = rt->task[i];
		}
	return r < 0 ? r : rtask_rounds(rt, task, n, &ops, err);
}
