/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches stepped in many threads of one task at the same time: each step of a call is begun in all
 * of them before the first is waited for, since most of the time is waiting for stops.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

typedef int step_fn(struct tracee *t, struct thread_batch *tb, unsigned call, struct err *err);

static struct tracee_thread *thread_of(struct tracee *t, const struct thread_batch *tb)
{
	return &t->thread[tb->thread];
}

static int begin(struct tracee *t, struct thread_batch *tb, unsigned call, struct err *err)
{
	struct tracee_thread *th = thread_of(t, tb);
	struct arch_regs regs = th->regs;
	const struct call *c = &tb->batch.call[call];
	uint64_t arg[6];
	int r;

	memcpy(arg, c->arg, sizeof(arg));
	arch_setup_call(&regs, &t->mm_owner->inject->gadgets, th->frame_sp, c->nr, arg);
	r = steer_begin(t, th, &regs, err);
	return r ? r : steer_enter(t, th, err);
}

static int leave(struct tracee *t, struct thread_batch *tb, unsigned call, struct err *err)
{
	return steer_leave(t, thread_of(t, tb), err);
}

static int result(struct tracee *t, struct thread_batch *tb, unsigned call, struct err *err)
{
	return steer_result(t, thread_of(t, tb), &tb->batch.call[call].ret, err);
}

static int step(struct tracee *t, struct thread_batch *tb, size_t n, unsigned call, step_fn *fn,
		struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		int r = call < tb[i].batch.n ? fn(t, &tb[i], call, err) : 0;

		if (r)
			return r;
	}
	return 0;
}

static int prepare(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct tracee_thread *th = thread_of(t, &tb[i]);
		int r;

		if (tb[i].batch.overflow)
			return err_set(err, -E2BIG, "a batch of system calls is too long");
		if (th->is_exited || th->where != THREAD_STOPPED)
			return err_set(err, -ESRCH, "thread %d cannot run calls", th->tid);
		r = inject_frame(t, th, err);
		if (r)
			return r;
	}
	return 0;
}

static int run_calls(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err)
{
	static step_fn *const steps[] = {begin, leave, result};
	unsigned calls = 0;
	int r = prepare(t, tb, n, err);

	for (size_t i = 0; i < n; i++)
		calls = MAX(calls, tb[i].batch.n);
	for (unsigned c = 0; c < calls; c++)
		for (size_t s = 0; s < ARRAY_SIZE(steps) && r == 0; s++)
			r = step(t, tb, n, c, steps[s], err);
	return r;
}

/* Back to where the freeze found them, from wherever they are. */
static int end(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < n; i++)
		if (thread_of(t, &tb[i])->where == THREAD_AWAY)
			steer_interrupt(thread_of(t, &tb[i]));
	for (size_t i = 0; i < n; i++) {
		struct tracee_thread *th = thread_of(t, &tb[i]);
		int r = 0;

		if (th->where == THREAD_AWAY) {
			r = steer_trapped(t, th, ret ? NULL : err);
			if (r == 0)
				r = steer_restore(t, th, ret ? NULL : err);
		}
		inject_unframe(t, th);
		ret = ret ? ret : r;
	}
	return ret;
}

int tracee_threads_run(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err)
{
	int r, r2;

	if (!inject_is_live(t->mm_owner))
		return err_set(err, -EINVAL, "task %d (%s) is not injected", t->pid, t->comm);
	r = run_calls(t, tb, n, err);
	r2 = end(t, tb, n, r ? NULL : err);
	if (r || r2)
		err_context(err, "task %d (%s)", t->pid, t->comm);
	return r ? r : r2;
}
