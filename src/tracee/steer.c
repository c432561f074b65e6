/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Remote calls by ptrace: a stopped thread runs `syscall; ret` of its own code with the stack
 * pointer at a frame that puts everything back, so that it needs nobody to steer it on.
 *
 * Order, for our death at any point: registers before the mask when starting, the mask before the
 * registers when ending. In between the thread is always on its way to the frame. Never
 * PTRACE_SINGLESTEP: the trap flag outlives its tracer.
 */
#include "tracee/tracee_priv.h"

#include "base/insist.h"
#include "base/util.h"

#include <sys/ptrace.h>

#ifndef PTRACE_SETSIGMASK
#define PTRACE_SETSIGMASK 0x420b
#endif

int steer_gone(struct tracee *t, struct err *err)
{
	return err_set(err, -ESRCH, "was killed while it was frozen");
}

static int set_mask(struct tracee_thread *th, uint64_t mask, struct err *err)
{
	int r = ptrace_insist(PTRACE_SETSIGMASK, th->tid, (void *)sizeof(mask), &mask);

	return r ? err_sys(err, r, "cannot set the signal mask") : 0;
}

int steer_begin(struct tracee *t, struct tracee_thread *th, const struct arch_regs *regs,
		struct err *err)
{
	int r = arch_set_regs(th->tid, regs, err);

	if (r == 0 && th->where == THREAD_STOPPED) {
		th->where = THREAD_AWAY;
		r = set_mask(th, ~0ULL, err);
	}
	return r == -ESRCH ? steer_gone(t, err) : r;
}

int steer_enter(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	if (stop_resume(th->tid, PTRACE_SYSCALL, 0))
		return steer_gone(t, err);
	return 0;
}

/* Waits for the next stop at a system call; news of group stops are passed by. */
static int wait_syscall(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	for (;;) {
		enum stop s = stop_wait_steered(th, PTRACE_SYSCALL);
		int r;

		if (s == STOP_SYSCALL)
			return 0;
		if (s == STOP_GONE) {
			th->where = THREAD_GONE;
			return steer_gone(t, err);
		}
		r = stop_resume(th->tid, PTRACE_SYSCALL, 0);
		if (r && r != -ESRCH)
			return err_sys(err, r, "cannot resume");
	}
}

int steer_leave(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r = wait_syscall(t, th, err);

	return r ? r : steer_enter(t, th, err);
}

int steer_leave_to_trap(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r = wait_syscall(t, th, err);

	if (r)
		return r;
	stop_interrupt(th->tid);
	return stop_resume(th->tid, PTRACE_CONT, 0) ? steer_gone(t, err) : 0;
}

int steer_result(struct tracee *t, struct tracee_thread *th, int64_t *ret, struct err *err)
{
	struct arch_regs regs;
	int r = wait_syscall(t, th, err);

	if (r == 0)
		r = arch_get_regs(th->tid, &regs, err);
	if (r == 0)
		*ret = arch_call_result(&regs);
	return r;
}

int steer_call(struct tracee *t, struct tracee_thread *th, uint64_t sp, uint64_t nr,
	       const uint64_t arg[6], int64_t *ret, struct err *err)
{
	struct arch_regs regs = th->regs;
	int r;

	arch_setup_call(&regs, &t->mm_owner->inject->gadgets, sp, nr, arg);
	r = steer_begin(t, th, &regs, err);
	if (r == 0)
		r = steer_enter(t, th, err);
	if (r == 0)
		r = steer_leave(t, th, err);
	return r ? r : steer_result(t, th, ret, err);
}

/*
 * The last stop must be one inside the kernel's signal delivery (a PTRACE_INTERRUPT trap): only
 * from there the codes of interrupted calls in the registers are acted upon, pending signals
 * included (arch/x86/kernel/signal.c, arch_do_signal_or_restart).
 */
void steer_interrupt(struct tracee_thread *th)
{
	/* Both fail for a dead thread, the second also for one that runs: the wait tells. */
	stop_interrupt(th->tid);
	if (th->where == THREAD_AWAY)
		stop_resume(th->tid, PTRACE_CONT, 0);
}

int steer_trapped(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	enum stop s;

	do {
		s = stop_wait_steered(th, PTRACE_CONT);
		if (s == STOP_SYSCALL)
			stop_resume(th->tid, PTRACE_CONT, 0);
	} while (s == STOP_SYSCALL);
	if (s == STOP_GONE) {
		th->where = THREAD_GONE;
		return steer_gone(t, err);
	}
	th->where = THREAD_AWAY;
	return 0;
}

/* How often to look for stops of a thread in the loop: SIGSTOP and SIGCONT sent by others. */
#define LOOK_MS 20

int steer_wait_lane(struct tracee *t, struct tracee_thread *th, struct lane *l, struct err *err)
{
	while (!lane_is_done(l, LOOK_MS)) {
		enum stop s = stop_poll_steered(th, PTRACE_CONT);

		if (s == STOP_GONE) {
			th->where = THREAD_GONE;
			return steer_gone(t, err);
		}
		if (s != STOP_NONE)
			stop_resume(th->tid, PTRACE_CONT, 0);
	}
	return 0;
}

int steer_restore(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r = set_mask(th, th->sigmask, err);

	if (r == 0)
		r = arch_set_regs(th->tid, &th->regs, err);
	if (r == 0)
		th->where = THREAD_STOPPED;
	return r == -ESRCH ? steer_gone(t, err) : r;
}

int steer_end(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r;

	if (th->where != THREAD_AWAY && th->where != THREAD_IN_LOOP)
		return 0;
	steer_interrupt(th);
	r = steer_trapped(t, th, err);
	return r ? r : steer_restore(t, th, err);
}
