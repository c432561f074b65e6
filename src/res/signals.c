/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals: actions, pending ones with their siginfo and order (shared and per thread), sigaltstack.
 * Masks are the engine's, with the registers. Asks rt_sigaction(2) and sigaltstack(2); reads the
 * queues by PTRACE_PEEKSIGINFO and /proc/TID/status.
 *
 * A signal that was pending when its queue entry could not be allocated has no siginfo; it is
 * recorded as the kernel would deliver it (kernel/signal.c, collect_signal()). A pending SIGSTOP
 * cannot be blocked and so not be queued while a task is being built: the task is recorded as
 * stopped, what it would be an instant later.
 */
#include "res/attr.h"
#include "res/timers.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define SIGNALS	     64
#define SIGINFO_SIZE 128
#define PEEK_AT_ONCE 32

/* struct sigaction of the kernel, include/uapi/asm/signal.h */
struct kernel_action {
	uint64_t handler, flags, restorer, mask;
};

static bool has_action(int sig)
{
	return sig != SIGKILL && sig != SIGSTOP;
}

/* ---- pending: dump ---- */

typedef ProtobufCBinaryData queue_item;

static int append_peeked(queue_item **queue, size_t *n, const uint8_t *info, long count,
			 bool *ret_stop)
{
	for (long i = 0; i < count; i++) {
		const siginfo_t *si = (const siginfo_t *)(info + i * SIGINFO_SIZE);

		if (si->si_signo == SIGSTOP)
			*ret_stop = true;
		else if (msg_append_bytes(queue, n, si, SIGINFO_SIZE) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int peek_queue(pid_t tid, bool is_shared, queue_item **queue, size_t *n, bool *ret_stop,
		      struct err *err)
{
	_Alignas(siginfo_t) uint8_t info[PEEK_AT_ONCE * SIGINFO_SIZE];
	uint64_t off = 0;
	long count;

	do {
		struct __ptrace_peeksiginfo_args args = {
			.off = off,
			.flags = is_shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
			.nr = PEEK_AT_ONCE,
		};

		count = ptrace(PTRACE_PEEKSIGINFO, tid, &args, info);
		if (count < 0)
			return err_sys(err, -errno, "cannot read the pending signals of thread %d",
				       tid);
		if (append_peeked(queue, n, info, count, ret_stop) < 0)
			return err_nomem(err);
		off += count;
	} while (count == PEEK_AT_ONCE);
	return 0;
}

static uint64_t queued_mask(const queue_item *queue, size_t n)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < n; i++)
		mask |= 1ULL << (((const siginfo_t *)queue[i].data)->si_signo - 1);
	return mask;
}

/* Signals of `pending` that have no entry in the queue. */
static int add_unqueued(uint64_t pending, queue_item **queue, size_t *n, bool *ret_stop,
			struct err *err)
{
	uint64_t missing = pending & ~queued_mask(*queue, *n);
	uint8_t info[SIGINFO_SIZE] = {0};

	for (int sig = 1; sig <= SIGNALS; sig++) {
		if (!(missing >> (sig - 1) & 1) || sig == SIGKILL)
			continue;
		if (sig == SIGSTOP) {
			*ret_stop = true;
			continue;
		}
		memcpy(info, &sig, sizeof(sig)); /* si_code SI_USER, everything else 0 */
		if (msg_append_bytes(queue, n, info, sizeof(info)) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int read_pending(pid_t tid, bool is_shared, uint64_t pending, Cpx__Task *task,
			queue_item **queue, size_t *n, struct err *err)
{
	bool is_stopping = false;
	int r = 0;

	if (pending)
		r = peek_queue(tid, is_shared, queue, n, &is_stopping, err);
	if (r == 0 && pending)
		r = add_unqueued(pending, queue, n, &is_stopping, err);
	if (is_stopping && task->state == CPX__TASK__STATE__RUNNING) {
		task->state = CPX__TASK__STATE__STOPPED;
		task->stop_signal = SIGSTOP;
	}
	return r;
}

static int signals_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	const struct proc_status *status;
	int r = attr_status(c, t, NULL, &status, err);

	if (r < 0)
		return r;
	task->signals = MSG_NEW(Cpx__Signals, cpx__signals__init);
	if (!task->signals)
		return err_nomem(err);
	return read_pending(attr_speaker(t)->tid, true, status->shd_pnd, task,
			    &task->signals->pending, &task->signals->n_pending, err);
}

static int thread_signals_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			       Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	const struct proc_status *status;
	int r = attr_status(c, t, thread, &status, err);

	if (r < 0)
		return r;
	th->signals = MSG_NEW(Cpx__ThreadSignals, cpx__thread_signals__init);
	if (!th->signals)
		return err_nomem(err);
	return read_pending(thread->tid, false, status->sig_pnd, task, &th->signals->pending,
			    &th->signals->n_pending, err);
}

static void drop_queue(queue_item **queue, size_t *n)
{
	for (size_t i = 0; i < *n; i++)
		free((*queue)[i].data);
	free(*queue);
	*queue = NULL;
	*n = 0;
}

static int pending_now(struct dump_ctx *c, pid_t tid, struct proc_status *ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = proc_open(c->proc_fd, tid, 0, &dir, err);

	return r < 0 ? r : proc_status(dir, ret, err);
}

static int reread_queue(struct tracee *t, pid_t tid, bool is_shared, uint64_t pending,
			Cpx__Task *task, queue_item **queue, size_t *n, struct err *err)
{
	int r = tracee_pause(t, err);

	if (r < 0)
		return r;
	drop_queue(queue, n);
	r = read_pending(tid, is_shared, pending, task, queue, n, err);
	return r < 0 ? r : tracee_resume(t, err);
}

/* Timers run on in a frozen task: what was read before they were asked may lack their signals. */
static int signals_reread(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			  Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	Cpx__Signals *s = task->signals;
	struct proc_status now = {0};
	pid_t tid = attr_speaker(t)->tid;
	int r;

	if (!(t->pending_last & ~queued_mask(s->pending, s->n_pending)))
		return 0;
	r = pending_now(c, tid, &now, err);

	if (r == 0 && now.shd_pnd & ~queued_mask(s->pending, s->n_pending))
		r = reread_queue(t, tid, true, now.shd_pnd, task, &s->pending, &s->n_pending, err);
	proc_status_release(&now);
	return r;
}

/* Only POSIX timers signal one thread. */
static int thread_signals_reread(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
				 Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	Cpx__ThreadSignals *s = th->signals;
	struct proc_status now = {0};
	int r = 0;

	if (task->n_posix_timer)
		r = pending_now(c, thread->tid, &now, err);
	if (r == 0 && now.sig_pnd & ~queued_mask(s->pending, s->n_pending))
		r = reread_queue(t, thread->tid, false, now.sig_pnd, task, &s->pending,
				 &s->n_pending, err);
	proc_status_release(&now);
	return r;
}

/* ---- actions ---- */

/* scratch[0]: remote array of actions by signal - 1, scratch[1]: index of the first call. */
static int signals_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		       const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[0] = batch_out(b, SIGNALS * sizeof(struct kernel_action));
	scratch[1] = b->n;
	for (int sig = 1; sig <= SIGNALS; sig++)
		if (has_action(sig))
			BATCH_CALL(b, SYS_rt_sigaction, sig, 0,
				   scratch[0] + (sig - 1) * sizeof(struct kernel_action), 8);
	return 0;
}

static int add_action(Cpx__Signals *signals, int sig, const struct kernel_action *a,
		      struct err *err)
{
	Cpx__SigAction *action = MSG_NEW(Cpx__SigAction, cpx__sig_action__init);

	if (!action || msg_append(&signals->action, &signals->n_action, action) < 0) {
		free(action);
		return err_nomem(err);
	}
	action->signo = sig;
	action->handler = a->handler;
	action->flags = a->flags;
	action->restorer = a->restorer;
	action->mask = a->mask;
	return 0;
}

static int signals_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	static const struct kernel_action none;
	const struct kernel_action *a = batch_local(b, scratch[0]);
	unsigned call = scratch[1];
	int r = 0;

	for (int sig = 1; sig <= SIGNALS && r == 0; sig++) {
		if (!has_action(sig))
			continue;
		r = attr_result(b, call++, "read a signal action", err);
		if (r == 0 && memcmp(&a[sig - 1], &none, sizeof(none)))
			r = add_action(task->signals, sig, &a[sig - 1], err);
	}
	return r;
}

/* scratch[0]: remote stack_t, scratch[1]: the call. */
static int thread_signals_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			      const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			      struct err *err)
{
	scratch[0] = batch_out(b, sizeof(stack_t));
	scratch[1] = BATCH_CALL(b, SYS_sigaltstack, 0, scratch[0]);
	return 0;
}

/* SS_ONSTACK is no state but says where the stack pointer is at the moment of the call, which is
 * not the thread's own when we steer it. */
static int thread_signals_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			       const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			       struct err *err)
{
	const stack_t *stack = batch_local(b, scratch[0]);
	int r = attr_result(b, scratch[1], "read the alternate signal stack", err);

	if (r < 0)
		return r;
	th->signals->altstack_sp = (uintptr_t)stack->ss_sp;
	th->signals->altstack_flags = stack->ss_flags & ~SS_ONSTACK;
	th->signals->altstack_size = stack->ss_size;
	return 0;
}

/* ---- restore ---- */

static int check_pending(const queue_item *queue, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		const siginfo_t *si = (const siginfo_t *)queue[i].data;

		if (queue[i].len != SIGINFO_SIZE || si->si_signo < 1 || si->si_signo > SIGNALS ||
		    !has_action(si->si_signo))
			return err_set(err, -EBADMSG, "a pending signal is malformed");
	}
	return 0;
}

static int signals_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			 struct err *err)
{
	const Cpx__Signals *s = task->signals;

	for (size_t i = 0; s && i < s->n_action; i++)
		if (s->action[i]->signo < 1 || s->action[i]->signo > SIGNALS ||
		    !has_action(s->action[i]->signo))
			return err_set(err, -EBADMSG, "an action for signal %u",
				       s->action[i]->signo);
	return s ? check_pending(s->pending, s->n_pending, err) : 0;
}

static int thread_signals_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
				struct err *err)
{
	return th->signals ? check_pending(th->signals->pending, th->signals->n_pending, err) : 0;
}

/* Ignoring a signal drops it from all queues, blocked or not (do_sigaction()): whatever reached
 * the task while it was being built, above all SIGCHLD of its zombies, is gone then. SIGCHLD itself
 * is dropped by its default action, without making children vanish unreaped meanwhile. */
static void give_clean_slate(struct batch *b)
{
	struct kernel_action ignore = {.handler = (uintptr_t)SIG_IGN}, dfl = {0};
	uint64_t remote_ignore = batch_in(b, &ignore, sizeof(ignore));
	uint64_t remote_dfl = batch_in(b, &dfl, sizeof(dfl));

	for (int sig = 1; sig <= SIGNALS; sig++) {
		if (!has_action(sig))
			continue;
		if (sig != SIGCHLD)
			BATCH_CALL(b, SYS_rt_sigaction, sig, remote_ignore, 0, 8);
		BATCH_CALL(b, SYS_rt_sigaction, sig, remote_dfl, 0, 8);
	}
}

static void give_actions(const Cpx__Signals *s, struct batch *b)
{
	for (size_t i = 0; i < s->n_action; i++) {
		const Cpx__SigAction *a = s->action[i];
		struct kernel_action action = {
			.handler = a->handler,
			.flags = a->flags,
			.restorer = a->restorer,
			.mask = a->mask,
		};

		BATCH_CALL(b, SYS_rt_sigaction, a->signo, batch_in(b, &action, sizeof(action)), 0,
			   8);
	}
}

/* Every signal is blocked meanwhile, and a blocked signal is queued even where it is ignored
 * (sig_ignored()). A siginfo with any si_code may be sent to oneself. tid 0: to the process.
 * Returns 1 when the batch is full; *next: the first that is still to be queued. */
static int give_pending(const queue_item *queue, size_t n, uint64_t *next, const Cpx__Task *task,
			pid_t tid, struct batch *b)
{
	for (; *next < n; (*next)++) {
		const siginfo_t *si = (const siginfo_t *)queue[*next].data;
		uint64_t info;

		if (si->si_code == SI_TIMER && timers_queue_signal(task, si->si_timerid))
			continue;
		if (batch_is_tight(b, 1, 2 * SIGINFO_SIZE))
			return 1;
		info = batch_in(b, si, SIGINFO_SIZE);
		if (tid)
			BATCH_CALL(b, SYS_rt_tgsigqueueinfo, task->pid, tid, si->si_signo, info);
		else
			BATCH_CALL(b, SYS_rt_sigqueueinfo, task->pid, si->si_signo, info);
	}
	return 0;
}

static int signals_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const Cpx__Signals *s = task->signals;

	if (s && stage == GIVE_MAIN) {
		give_clean_slate(b);
		give_actions(s, b);
	}
	return s && stage == GIVE_LATE ? give_pending(s->pending, s->n_pending, scratch, task, 0, b)
				       : 0;
}

static void give_altstack(const Cpx__ThreadSignals *s, struct batch *b)
{
	stack_t stack = {
		.ss_sp = (void *)(uintptr_t)s->altstack_sp,
		.ss_flags = (int)s->altstack_flags,
		.ss_size = s->altstack_size,
	};

	BATCH_CALL(b, SYS_sigaltstack, batch_in(b, &stack, sizeof(stack)), 0);
}

static int thread_signals_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			       const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			       struct err *err)
{
	const Cpx__ThreadSignals *s = th->signals;

	if (s && stage == GIVE_MAIN)
		give_altstack(s, b);
	return s && stage == GIVE_LATE
		       ? give_pending(s->pending, s->n_pending, scratch, task, th->tid, b)
		       : 0;
}

const struct attr_ops signals_attr_ops = {
	.name = "signals",
	.read = signals_read,
	.reread = signals_reread,
	.ask = signals_ask,
	.take = signals_take,
	.check = signals_check,
	.give = signals_give,
};

const struct attr_ops thread_signals_attr_ops = {
	.name = "signals of the thread",
	.per_thread = true,
	.read = thread_signals_read,
	.reread = thread_signals_reread,
	.ask = thread_signals_ask,
	.take = thread_signals_take,
	.check = thread_signals_check,
	.give = thread_signals_give,
};
