/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The switch: threads leave the loop for the registers of the image, by ptrace(2). All are stopped
 * in an event stop first, from which the kernel itself restarts interrupted system calls as the
 * restored registers say (arch/x86/kernel/signal.c, arch_do_signal_or_restart).
 *
 * A sleep with a relative timeout is entered again with the rest of its time and interrupted at
 * once: the kernel's restart_block then holds the true end, and the registers of the image complete it.
 */
#include "engine/rtree.h"

#include "base/util.h"
#include "proc/proc.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define ERESTART_RESTARTBLOCK 516

static int thread_context(const struct rtask *t, const struct rthread *th, struct err *err)
{
	if (th->tid != t->pid)
		err_context(err, "thread %d", th->tid);
	return rtask_context(t, err);
}

/* ---- stops ---------------------------------------------------------------------------------- */

static int wait_stop(pid_t tid, int *ret_status, struct err *err)
{
	int status;

	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for thread %d", tid);
	if (!WIFSTOPPED(status))
		return err_set(err, -ESRCH, "thread %d ended (status %#x)", tid, status);
	*ret_status = status;
	return 0;
}

/* To the next event stop; signals that others sent meanwhile are put back by being delivered. */
static int wait_event_stop(pid_t tid, struct err *err)
{
	int status, r;

	while ((r = wait_stop(tid, &status, err)) == 0 && status >> 16 != PTRACE_EVENT_STOP) {
		int signo = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);

		if (ptrace(PTRACE_CONT, tid, 0, signo) < 0)
			return err_sys(err, -errno, "cannot continue thread %d", tid);
	}
	return r;
}

static int go_to_syscall_stop(pid_t tid, struct err *err)
{
	if (ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0)
		return err_sys(err, -errno, "cannot step thread %d", tid);
	return 0;
}

static int wait_syscall_stop(pid_t tid, struct err *err)
{
	int status, r = wait_stop(tid, &status, err);

	if (r == 0 && WSTOPSIG(status) != (SIGTRAP | 0x80))
		return err_set(err, -EPROTO, "thread %d stopped oddly (status %#x)", tid, status);
	return r;
}

/* From a system call stop to an event stop, without an instruction between. */
static int go_to_event_stop(pid_t tid, struct err *err)
{
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		return err_sys(err, -errno, "cannot interrupt thread %d", tid);
	return 0;
}

static int setup_call(struct rtree *rt, const struct rthread *th, uint64_t nr, const uint64_t arg[6],
		      struct err *err)
{
	struct arch_gadgets g = {.syscall_ret = arch_loop_syscall(rt->code)};
	struct arch_regs regs;
	int r = arch_get_regs(th->tid, &regs, err);

	if (r < 0)
		return r;
	arch_setup_call(&regs, &g, mailbox_lane_remote(&rt->box, th->lane) + LANE_SIZE, nr, arg);
	return arch_set_regs(th->tid, &regs, err);
}

/* ---- sleeps --------------------------------------------------------------------------------- */

struct sleep_call {
	uint64_t nr, arg[6];
	int timeout_arg; /* a pointer to a relative timespec; -1: poll's milliseconds in arg[2] */
};

static bool is_relative_sleep(const struct arch_regs *regs, struct sleep_call *c)
{
	c->nr = arch_syscall_nr(regs);
	for (unsigned i = 0; i < 6; i++)
		c->arg[i] = arch_syscall_arg(regs, i);
	switch (c->nr) {
	case SYS_nanosleep:
		c->timeout_arg = 0;
		return true;
	case SYS_clock_nanosleep:
		c->timeout_arg = 2;
		return !(c->arg[1] & TIMER_ABSTIME);
	case SYS_futex:
		c->timeout_arg = 3;
		return (c->arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT && c->arg[3];
	case SYS_poll:
		c->timeout_arg = -1;
		return (int)c->arg[2] > 0;
	default:
		return false;
	}
}

static void subtract(struct timespec *ts, uint64_t ns)
{
	uint64_t have = ts->tv_sec * 1000000000ULL + ts->tv_nsec;
	uint64_t left = have > ns ? have - ns : 0;

	ts->tv_sec = left / 1000000000ULL;
	ts->tv_nsec = left % 1000000000ULL;
}

/* Where the kernel put the rest of the time when it interrupted the sleep (kernel/time/hrtimer.c,
 * nanosleep_copyout), if the caller wanted to know; 0 if not. It may be the request itself. */
static uint64_t remainder_address(const struct sleep_call *c)
{
	return c->nr == SYS_nanosleep ? c->arg[1] : c->nr == SYS_clock_nanosleep ? c->arg[3] : 0;
}

static int read_timespec(struct rtask *t, uint64_t addr, struct timespec *ret, struct err *err)
{
	struct iovec local = {ret, sizeof(*ret)}, remote = {(void *)addr, sizeof(*ret)};

	/* /proc/PID/mem does not wait for memory that is missing still (restore --lazy). */
	if (pread(t->mm_owner->mem_fd, ret, sizeof(*ret), addr) != sizeof(*ret) &&
	    process_vm_readv(t->pid, &local, 1, &remote, 1, 0) != sizeof(*ret))
		return err_sys(err, -errno, "cannot read the timeout of a sleep at %#llx",
			       (unsigned long long)addr);
	return 0;
}

/* Puts the rest of the time into the lane's data area, which is mapped there until the end. */
static int shorten(struct rtree *rt, struct rtask *t, const struct rthread *th, struct sleep_call *c,
		   struct err *err)
{
	struct batch b = lane_batch(&rt->box, th->lane);
	uint64_t left = remainder_address(c);
	struct timespec ts;
	int r;

	if (c->timeout_arg < 0) {
		uint64_t ms = th->msg->asleep_ns / 1000000;

		c->arg[2] = c->arg[2] > ms ? c->arg[2] - ms : 0;
		return 0;
	}
	r = read_timespec(t, left ? left : c->arg[c->timeout_arg], &ts, err);
	if (r < 0)
		return r;
	if (!left)
		subtract(&ts, th->msg->asleep_ns);
	c->arg[c->timeout_arg] = batch_in(&b, &ts, sizeof(ts));
	return 0;
}

/* ---- one thread, in steps ------------------------------------------------------------------- */

/* A thread on its way out. Its steps are made by all threads together, so that all are under way while one is waited for. */
struct leaver {
	struct rtask *t;
	struct rthread *th;
	struct arch_regs regs; /* the image's, completed */
	struct sleep_call call;
	bool sleeps;  /* enters `call` again */
	bool unmaps;  /* the mailbox, as the last one of its mm */
};

static int load_regs(struct rtree *rt, struct leaver *l, struct err *err)
{
	const Cpx__Thread *msg = l->th->msg;

	if (msg->gp_regs.len != sizeof(l->regs.gp))
		return err_set(err, -EBADMSG, "the registers have %zu bytes", msg->gp_regs.len);
	memcpy(&l->regs.gp, msg->gp_regs.data, sizeof(l->regs.gp));
	if (arch_restart_code(&l->regs) != -ERESTART_RESTARTBLOCK)
		return 0;
	l->sleeps = is_relative_sleep(&l->regs, &l->call);
	if (!l->sleeps) /* an absolute time, or none: the same arguments will do */
		arch_rewind_syscall(&l->regs);
	return 0;
}

static int sleep_enter(struct rtree *rt, struct leaver *l, struct err *err)
{
	int r;

	if (!l->sleeps)
		return 0;
	r = shorten(rt, l->t, l->th, &l->call, err);
	if (r == 0)
		r = setup_call(rt, l->th, l->call.nr, l->call.arg, err);
	return r < 0 ? r : go_to_syscall_stop(l->th->tid, err);
}

static int sleep_interrupt(struct rtree *rt, struct leaver *l, struct err *err)
{
	int r = l->sleeps ? wait_syscall_stop(l->th->tid, err) : 0;

	return r == 0 && l->sleeps ? go_to_event_stop(l->th->tid, err) : r;
}

static int sleep_result(struct rtree *rt, struct leaver *l, struct err *err)
{
	struct arch_regs now;
	int r = l->sleeps ? wait_event_stop(l->th->tid, err) : 0;

	if (r == 0 && l->sleeps)
		r = arch_get_regs(l->th->tid, &now, err);
	/* Over already, or what it waits for is there: that is its result. */
	if (r == 0 && l->sleeps && arch_restart_code(&now) != -ERESTART_RESTARTBLOCK)
		arch_finish_syscall(&l->regs, arch_call_result(&now));
	return r;
}

static int unmap_enter(struct rtree *rt, struct leaver *l, struct err *err)
{
	int r;

	if (!l->unmaps)
		return 0;
	r = setup_call(rt, l->th, SYS_munmap, (const uint64_t[6]){rt->hole, rt->hole_size}, err);
	return r < 0 ? r : go_to_syscall_stop(l->th->tid, err);
}

static int unmap_run(struct rtree *rt, struct leaver *l, struct err *err)
{
	int r = l->unmaps ? wait_syscall_stop(l->th->tid, err) : 0;

	return r == 0 && l->unmaps ? go_to_syscall_stop(l->th->tid, err) : r;
}

static int unmap_result(struct rtree *rt, struct leaver *l, struct err *err)
{
	struct arch_regs regs;
	int r;

	if (!l->unmaps)
		return 0;
	r = wait_syscall_stop(l->th->tid, err);
	if (r == 0)
		r = arch_get_regs(l->th->tid, &regs, err);
	if (r == 0 && arch_call_result(&regs) < 0)
		r = err_sys(err, (int)arch_call_result(&regs), "cannot unmap the mailbox");
	return r < 0 ? r : go_to_event_stop(l->th->tid, err);
}

static int set_xstate(const struct rthread *th, struct err *err)
{
	_cleanup_free_ struct arch_xstate *x = malloc(sizeof(*x) + th->msg->xstate.len);

	if (!x)
		return err_nomem(err);
	x->size = th->msg->xstate.len;
	memcpy(x->data, th->msg->xstate.data, x->size);
	return arch_set_xstate(th->tid, x, err);
}

static int finish_attributes(struct rtree *rt, struct rtask *t, struct rthread *th, struct err *err)
{
	int r = 0;

	for (size_t k = 0; attr_registry[k] && r == 0; k++)
		if (attr_registry[k]->finish)
			r = attr_registry[k]->finish(&rt->ctx, t->msg, th->msg, th->tid, err);
	return r;
}

static int set_state(struct rtree *rt, struct leaver *l, struct err *err)
{
	uint64_t mask = l->th->msg->sigmask;
	int r = l->unmaps ? wait_event_stop(l->th->tid, err) : 0;

	if (r == 0)
		r = set_xstate(l->th, err);
	if (r == 0)
		r = arch_set_regs(l->th->tid, &l->regs, err);
	if (r == 0 && ptrace(PTRACE_SETSIGMASK, l->th->tid, sizeof(mask), &mask) < 0)
		r = err_sys(err, -errno, "cannot set the signal mask");
	return r < 0 ? r : finish_attributes(rt, l->t, l->th, err);
}

/* Nobody needs the mailbox any more when the first one unmaps it. */
static int (*const leave_steps[])(struct rtree *rt, struct leaver *l, struct err *err) = {
	load_regs,   sleep_enter, sleep_interrupt, sleep_result,
	unmap_enter, unmap_run,	  unmap_result,	   set_state,
};

static int leave(struct rtree *rt, struct leaver *l, size_t n, struct err *err)
{
	int r = 0;

	for (size_t k = 0; k < ARRAY_SIZE(leave_steps) && r == 0; k++)
		for (size_t i = 0; i < n && r == 0; i++) {
			r = leave_steps[k](rt, &l[i], err);
			if (r < 0)
				thread_context(l[i].t, l[i].th, err);
		}
	return r;
}

/* ---- all threads of the tasks that are wanted ------------------------------------------------- */

static bool is_switchable(const struct rtask *t, rtask_filter *want, const void *arg)
{
	return t->msg && t->msg->state != CPX__TASK__STATE__ZOMBIE && want(t, arg);
}

/* A leader that has ended: it ends here, untraced, while its threads go on. */
static int end_leader(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct batch b = rtask_batch(rt, t);

	if (!t->thread[0].msg->exited)
		return 0;
	name_give(&b, t->msg, t->thread[0].msg);
	BATCH_CALL(&b, SYS_exit, 0);
	return lane_post(rtask_lane(rt, t), &b, err);
}

static int interrupt_threads(struct rtree *rt, struct rtask *t, struct err *err)
{
	int r = end_leader(rt, t, err);

	for (size_t k = 0; k < t->nthreads && r == 0; k++)
		if (t->thread[k].is_seized && ptrace(PTRACE_INTERRUPT, t->thread[k].tid, 0, 0) < 0)
			r = err_sys(err, -errno, "cannot interrupt thread %d", t->thread[k].tid);
	return r < 0 ? rtask_context(t, err) : 0;
}

#define LEADER_NAP_NS 50000

/* It must be out of the mailbox before that is unmapped. Nothing tells of the end of a leader alone. */
static int await_leader(const struct restore_ctx *c, const struct rtask *t, struct err *err)
{
	struct proc_stat st = {0};
	int r = 0;

	while (r == 0 && !proc_is_dead(st.state)) {
		_cleanup_close_ int dir = -1;

		if (st.state)
			nanosleep(&(struct timespec){.tv_nsec = LEADER_NAP_NS}, NULL);
		r = proc_open(c->proc_fd, t->pid, t->pid, &dir, err);
		if (r == 0)
			r = proc_stat(dir, &st, err);
	}
	return r;
}

static int await_threads(const struct restore_ctx *c, struct rtask *t, struct err *err)
{
	int r = t->thread[0].msg->exited ? await_leader(c, t, err) : 0;

	for (size_t k = 0; k < t->nthreads && r == 0; k++)
		if (t->thread[k].is_seized)
			r = wait_event_stop(t->thread[k].tid, err);
	return r < 0 ? rtask_context(t, err) : 0;
}

/* Does another task that has not been switched yet live in t's mm? */
static bool is_mm_needed(const struct rtree *rt, const struct rtask *t)
{
	for (size_t i = 0; i < rt->n; i++)
		if (rt->task[i] != t && rt->task[i]->msg && rt->task[i]->mm_owner == t->mm_owner &&
		    rt->task[i]->msg->state != CPX__TASK__STATE__ZOMBIE && !rt->task[i]->is_switched)
			return true;
	return false;
}

static size_t add_leavers(struct rtree *rt, struct rtask *t, struct leaver *l)
{
	size_t n = 0;

	for (size_t k = 0; k < t->nthreads; k++)
		if (t->thread[k].is_seized)
			l[n].t = t, l[n++].th = &t->thread[k];
	if (t->thread[t->nthreads - 1].is_seized)
		l[n - 1].unmaps = !is_mm_needed(rt, t);
	t->is_switched = true;
	return n;
}

static int leave_all(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err)
{
	_cleanup_free_ struct leaver *l = calloc(rt->next_lane + 1, sizeof(*l));
	size_t n = 0;

	if (!l)
		return err_nomem(err);
	for (size_t i = 0; i < rt->n; i++)
		if (is_switchable(rt->task[i], want, arg))
			n += add_leavers(rt, rt->task[i], l + n);
	return leave(rt, l, n, err);
}

int switch_tasks(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (is_switchable(rt->task[i], want, arg))
			r = interrupt_threads(rt, rt->task[i], err);
	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (is_switchable(rt->task[i], want, arg))
			r = await_threads(&rt->ctx, rt->task[i], err);
	return r < 0 ? r : leave_all(rt, want, arg, err);
}

/* ---- letting go ------------------------------------------------------------------------------- */

static int detach(struct rtask *t, struct err *err)
{
	for (size_t k = 0; k < t->nthreads; k++) {
		if (!t->thread[k].is_seized)
			continue;
		if (ptrace(PTRACE_DETACH, t->thread[k].tid, 0, 0) < 0)
			return err_sys(err, -errno, "cannot let go of thread %d", t->thread[k].tid);
		t->thread[k].is_seized = false;
	}
	return 0;
}

int switch_release(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (is_switchable(rt->task[i], want, arg))
			r = detach(rt->task[i], err);
	return r;
}

/* The parent, still in the loop, waits for the stop, and takes note of it if it had in the image. */
static int parent_waits(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct batch b = rtask_batch(rt, t->parent);
	int r;

	BATCH_CALL(&b, SYS_waitid, P_PID, t->pid, 0, WSTOPPED | (t->msg->stop_reported ? 0 : WNOWAIT));
	r = rtask_run(rt, t->parent, &b, err);
	if (r == 0 && batch_ret(&b, 0) < 0)
		r = err_sys(err, (int)batch_ret(&b, 0), "its parent cannot wait for it to stop");
	return r;
}

static int we_wait(struct rtask *t, struct err *err)
{
	siginfo_t info;

	while (waitid(P_PID, t->pid, &info, WSTOPPED | WNOWAIT) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for it to stop");
	return 0;
}

/* ---- stopped tasks ---------------------------------------------------------------------------- */

static struct rthread *first_live(struct rtask *t)
{
	for (size_t k = 0; k < t->nthreads; k++)
		if (t->thread[k].is_seized)
			return &t->thread[k];
	return NULL;
}

static int set_mask(const struct rthread *th, uint64_t mask, struct err *err)
{
	if (ptrace(PTRACE_SETSIGMASK, th->tid, sizeof(mask), &mask) < 0)
		return err_sys(err, -errno, "cannot set the signal mask");
	return 0;
}

/*
 * Delivers signo (by way of a SIGSTOP, which cannot be blocked) and goes on to the trap that follows, whether
 * the signal stopped the task or was ignored, as SIGTSTP is in an orphaned process group
 * (kernel/signal.c, get_signal). *ret_is_stopped tells.
 */
static int deliver_stop(struct rtask *t, struct rthread *th, int signo, bool *ret_is_stopped,
			struct err *err)
{
	int status, r;

	if (syscall(SYS_tgkill, t->pid, th->tid, SIGSTOP) < 0 || ptrace(PTRACE_CONT, th->tid, 0, 0) < 0)
		return err_sys(err, -errno, "cannot stop it");
	r = wait_stop(th->tid, &status, err);
	if (r == 0 && (ptrace(PTRACE_INTERRUPT, th->tid, 0, 0) < 0 ||
		       ptrace(PTRACE_CONT, th->tid, 0, signo) < 0))
		r = err_sys(err, -errno, "cannot stop it");
	if (r == 0)
		r = wait_stop(th->tid, &status, err);
	if (r == 0)
		*ret_is_stopped = WSTOPSIG(status) != SIGTRAP;
	return r;
}

static bool has_default_action(const struct rtask *t, int signo)
{
	const Cpx__Signals *s = t->msg->signals;

	for (size_t i = 0; s && i < s->n_action; i++)
		if (s->action[i]->signo == (uint32_t)signo && s->action[i]->handler)
			return false;
	return true;
}

/* By the signal that stopped it in the image, if that still stops; all others are blocked meanwhile. */
static int stop_traced(struct rtask *t, struct rthread *th, struct err *err)
{
	int signo = t->msg->stop_signal;
	bool is_stopped = false;
	int r = 0;

	if (signo == SIGTSTP || signo == SIGTTIN || signo == SIGTTOU) {
		r = set_mask(th, ~(1ULL << (signo - 1)), err);
		if (r == 0 && has_default_action(t, signo))
			r = deliver_stop(t, th, signo, &is_stopped, err);
	}
	if (r == 0 && !is_stopped)
		r = set_mask(th, ~0ULL, err);
	if (r == 0 && !is_stopped)
		r = deliver_stop(t, th, SIGSTOP, &is_stopped, err);
	return r < 0 ? r : set_mask(th, th->msg->sigmask, err);
}

int switch_stop(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct rthread *th = first_live(t);
	int r = th ? stop_traced(t, th, err) : 0;

	if (r == 0)
		r = detach(t, err);
	if (r == 0)
		r = t->parent ? parent_waits(rt, t, err) : we_wait(t, err);
	return r < 0 ? rtask_context(t, err) : 0;
}

/* ---- continued tasks -------------------------------------------------------------------------- */

static int wait_group_stop(pid_t tid, struct err *err)
{
	int status = 0, r;

	do {
		if (status && ptrace(PTRACE_CONT, tid, 0, status >> 16 ? 0 : WSTOPSIG(status)) < 0)
			return err_sys(err, -errno, "cannot continue thread %d", tid);
		r = wait_stop(tid, &status, err);
	} while (r == 0 && (status >> 16 != PTRACE_EVENT_STOP || WSTOPSIG(status) != SIGSTOP));
	return r;
}

/* A trap tells of SIGCONT (ptrace(2), "PTRACE_SEIZE"); then it runs. */
static int go_on(pid_t tid, struct err *err)
{
	int r;

	if (ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		return err_sys(err, -errno, "cannot continue thread %d", tid);
	r = wait_event_stop(tid, err);
	if (r == 0 && ptrace(PTRACE_CONT, tid, 0, 0) < 0)
		r = err_sys(err, -errno, "cannot continue thread %d", tid);
	return r;
}

/* Its threads are in the loop and stay there; its parent may wait for it from then on. */
int switch_continue(struct rtask *t, struct err *err)
{
	struct rthread *first = first_live(t);
	int r = 0;

	if (!first || t->thread[0].msg->exited)
		return 0;
	if (syscall(SYS_tgkill, t->pid, first->tid, SIGSTOP) < 0)
		r = err_sys(err, -errno, "cannot stop it");
	for (size_t k = 0; k < t->nthreads && r == 0; k++)
		r = wait_group_stop(t->thread[k].tid, err);
	if (r == 0 && kill(t->pid, SIGCONT) < 0)
		r = err_sys(err, -errno, "cannot continue it");
	for (size_t k = 0; k < t->nthreads && r == 0; k++)
		r = go_on(t->thread[k].tid, err);
	return r < 0 ? rtask_context(t, err) : 0;
}
