/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches in injected tasks: in the host thread's loop, or stepped in any other thread.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

int inject_wait(struct tracee *t, struct err *err)
{
	return steer_wait_lane(t, t->inject->host, mailbox_lane(&t->mailbox, 0), err);
}

struct batch tracee_batch(struct tracee *t)
{
	return lane_batch(&t->mm_owner->mailbox, 0);
}

static int not_injected(struct tracee *t, struct err *err)
{
	return err_set(err, -EINVAL, "task %d (%s) is not injected", t->pid, t->comm);
}

int tracee_post(struct tracee *t, const struct batch *b, struct err *err)
{
	int r;

	if (!inject_is_live(t))
		return not_injected(t, err);
	r = tracee_may_run(t->inject->host, b, err);
	if (r == 0)
		r = lane_post(mailbox_lane(&t->mailbox, 0), b, err);
	return r ? err_context(err, "task %d (%s)", t->pid, t->comm) : 0;
}

int tracee_wait(struct tracee *t, struct err *err)
{
	int r = inject_wait(t, err);

	return r ? err_context(err, "task %d (%s)", t->pid, t->comm) : 0;
}

int tracee_run(struct tracee *t, const struct batch *b, struct err *err)
{
	int r = tracee_post(t, b, err);

	return r ? r : tracee_wait(t, err);
}

static int step_all(struct tracee *t, struct tracee_thread *th, const struct batch *b,
		    struct err *err)
{
	int r = inject_frame(t, th, err);

	if (r == 0)
		r = tracee_may_run(th, b, err);
	for (unsigned i = 0; r == 0 && i < b->n; i++) {
		uint64_t arg[6];

		memcpy(arg, b->call[i].arg, sizeof(arg));
		r = steer_call(t, th, th->frame_sp, b->call[i].nr, arg, &b->call[i].ret, err);
	}
	return r;
}

int tracee_thread_run(struct tracee *t, size_t i, const struct batch *b, struct err *err)
{
	struct tracee_thread *th = &t->thread[i];
	int r, r2;

	if (!inject_is_live(t->mm_owner))
		return not_injected(t->mm_owner, err);
	if (th == t->mm_owner->inject->host)
		return tracee_run(t->mm_owner, b, err);
	if (b->overflow)
		return err_set(err, -E2BIG, "a batch of system calls is too long");
	if (th->is_exited || th->where != THREAD_STOPPED)
		return err_set(err, -ESRCH, "task %d (%s): thread %d cannot run calls", t->pid,
			       t->comm, th->tid);
	r = step_all(t, th, b, err);
	r2 = steer_end(t, th, r ? NULL : err);
	inject_unframe(t, th);
	if (r || r2)
		err_context(err, "task %d (%s)", t->pid, t->comm);
	return r ? r : r2;
}

int inject_is_subreaper(struct tracee *t, bool *ret, struct err *err)
{
	struct batch b;
	uint64_t out;
	int r = 0;

	if (t->subreaper < 0) {
		b = tracee_batch(t);
		out = batch_out(&b, sizeof(int));
		BATCH_CALL(&b, SYS_prctl, PR_GET_CHILD_SUBREAPER, out);
		r = tracee_thread_run(t, t->thread[0].is_exited ? 1 : 0, &b, err);
		if (r == 0)
			t->subreaper = *(int *)batch_local(&b, out) != 0;
	}
	*ret = t->subreaper > 0;
	return r;
}
