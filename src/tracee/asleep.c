/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that a freeze interrupts: how long a thread has been asleep in one with a relative timeout,
 * and calls which the kernel ends with EINTR at any stop, signal or not (signal(7), "Interruption
 * of system calls and library functions by stop signals").
 *
 * When a thread fell asleep: se.exec_start of /proc/PID/task/TID/sched, by the clock of the run
 * queue of its processor. Those clocks lag behind CLOCK_MONOTONIC, each by the time that was stolen
 * from its processor (kernel/sched/core.c, update_rq_clock_task), seconds after some days: so each
 * is compared with our own entry there, on the same processor. What is stolen during the sleep
 * makes the sleep look shorter, never longer. A thread that woke in between and slept on counts
 * from then.
 *
 * Not kept: what had passed of timeouts that lie in the application's memory, of calls that end
 * with EINTR (epoll_pwait2, semtimedop, rt_sigtimedwait, socket timeouts): they wait for all of it
 * again.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

/* ---- clocks ---- */

#define MAX_CPUS 1024

struct sleep_clocks {
	struct {
		bool is_known, is_usable;
		int64_t lag; /* CLOCK_MONOTONIC minus the run queue's */
	} cpu[MAX_CPUS];
};

static bool read_lag(int64_t *ret)
{
	_cleanup_close_ int dir = -1;
	uint64_t own;

	if (proc_open(-1, getpid(), gettid(), &dir, NULL) || proc_exec_start(dir, &own, NULL))
		return false;
	*ret = (int64_t)(monotonic_ns() - own);
	return true;
}

/* Goes to that processor for a moment, which makes our own exec_start the present there. */
static bool measure_lag(int cpu, int64_t *ret)
{
	cpu_set_t before, there;
	bool is_good;

	if (sched_getaffinity(0, sizeof(before), &before))
		return false;
	CPU_ZERO(&there);
	CPU_SET(cpu, &there);
	if (sched_setaffinity(0, sizeof(there), &there))
		return false;
	is_good = read_lag(ret);
	sched_setaffinity(0, sizeof(before), &before);
	return is_good;
}

static bool lag_of(struct tree *tree, int cpu, int64_t *ret)
{
	struct sleep_clocks *c = tree->clocks;

	if (!c)
		c = tree->clocks = calloc(1, sizeof(*c));
	if (!c || cpu < 0 || cpu >= MAX_CPUS)
		return false;
	if (!c->cpu[cpu].is_known) {
		c->cpu[cpu].is_known = true;
		c->cpu[cpu].is_usable = measure_lag(cpu, &c->cpu[cpu].lag);
	}
	*ret = c->cpu[cpu].lag;
	return c->cpu[cpu].is_usable;
}

void sleep_clocks_free(struct sleep_clocks *c)
{
	free(c);
}

/* ---- before the stop ---- */

static bool has_relative_timeout(const struct proc_syscall *c)
{
	switch (c->nr) {
	case SYS_nanosleep:
		return true;
	case SYS_clock_nanosleep:
		return !(c->arg[1] & TIMER_ABSTIME);
	case SYS_poll:
		return (int)c->arg[2] > 0;
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return (int)c->arg[3] > 0;
	case SYS_futex:
		return (c->arg[1] & FUTEX_CMD_MASK) == FUTEX_WAIT && c->arg[3];
	default:
		return false;
	}
}

/*
 * A sleep that went on after a stop is in restart_syscall(2), with the registers of the call that
 * it was: told by where the kernel waits and, of the two nanosleeps (which wait in the same place),
 * by the first argument, a clock or an address.
 */
static int64_t original_call(int dir, const struct proc_syscall *c)
{
	_cleanup_free_ char *where = NULL;
	size_t len;

	if (proc_read(dir, "wchan", &where, &len, NULL) < 0)
		return c->nr;
	if (strstr(where, "poll"))
		return SYS_poll;
	if (strstr(where, "futex"))
		return SYS_futex;
	return c->arg[0] < CPX_PAGE_SIZE || (int64_t)c->arg[0] < 0 ? SYS_clock_nanosleep
								   : SYS_nanosleep;
}

static void note_sleep(struct tracee *t, struct tracee_thread *th, int dir, struct proc_syscall *c)
{
	struct proc_stat st;
	uint64_t since;
	int64_t lag;

	if (c->nr == SYS_restart_syscall) {
		c->nr = original_call(dir, c);
		th->restarted_nr = (int)c->nr;
	}
	if (!has_relative_timeout(c))
		return;
	if (proc_stat(dir, &st, NULL) || proc_exec_start(dir, &since, NULL) ||
	    !lag_of(t->tree, st.processor, &lag))
		return;
	th->sleep_nr = (int)c->nr;
	th->asleep_since = since + (uint64_t)lag;
}

#define PF_IO_WORKER 0x10 /* include/linux/sched.h */

/* The kernel's helpers of an io_uring have no place in user space (arch/x86/kernel/process.c,
 * copy_thread). */
static bool may_be_helper(int dir, struct proc_syscall *c)
{
	return proc_syscall(dir, c, NULL) || c->is_running || (!c->pc && !c->sp);
}

static bool is_helper(int dir)
{
	struct proc_stat st;

	return proc_stat(dir, &st, NULL) == 0 && st.flags & PF_IO_WORKER;
}

bool asleep_before(struct tracee *t, struct tracee_thread *th)
{
	_cleanup_close_ int dir = -1;
	struct proc_syscall c;

	if (proc_open(-1, t->pid, th->tid, &dir, NULL))
		return true;
	if (may_be_helper(dir, &c))
		return !is_helper(dir);
	note_sleep(t, th, dir, &c);
	return true;
}

/* ---- after it ---- */

static bool ends_at_any_stop(const struct arch_regs *regs)
{
	switch (arch_syscall_nr(regs)) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_uring_enter:
	/* Sockets with SO_RCVTIMEO or SO_SNDTIMEO. */
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
		return true;
	case SYS_ioctl: /* tcdrain(3): drivers/tty/tty_io.c */
		return (unsigned)arch_syscall_arg(regs, 1) == 0x5409 /* TCSBRK */;
	default:
		return false;
	}
}

#define TIMEOUT_ARG 3 /* of epoll_wait and epoll_pwait, in ms */

static void shorten_timeout(struct tracee_thread *th)
{
	uint64_t ms = th->asleep_ns / 1000000, left;

	if (th->sleep_nr != SYS_epoll_wait && th->sleep_nr != SYS_epoll_pwait)
		return;
	left = arch_syscall_arg(&th->regs, TIMEOUT_ARG);
	arch_set_syscall_arg(&th->regs, TIMEOUT_ARG, ms < left ? left - ms : 0);
}

/*
 * ERESTARTNOHAND instead of EINTR: if a signal with a handler is there when the thread goes on, the
 * kernel makes it EINTR again, and else restarts the call.
 */
static int repair(struct tracee_thread *th, struct err *err)
{
	shorten_timeout(th);
	arch_set_restart_code(&th->regs, -514);
	return arch_set_regs(th->tid, &th->regs, err);
}

int asleep_after(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int code = arch_restart_code(&th->regs);
	uint64_t now = t->tree->frozen_at_ns;

	if (!code)
		return 0;
	/* The number is only looked at for whether there is a call to restart at all. */
	if (arch_syscall_nr(&th->regs) == SYS_restart_syscall && th->restarted_nr)
		arch_set_syscall_nr(&th->regs, th->restarted_nr);
	if (arch_syscall_nr(&th->regs) == th->sleep_nr && th->asleep_since < now)
		th->asleep_ns = now - th->asleep_since;
	return code == -EINTR && ends_at_any_stop(&th->regs) ? repair(th, err) : 0;
}
