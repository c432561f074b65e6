/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single ptrace stops: ptrace(2), "Stopped states" and "PTRACE_SEIZE".
 */
#include "tracee/tracee_priv.h"

#include "base/insist.h"
#include "base/util.h"
#include "proc/proc.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define SPIN_NS	     50000 /* most stops come sooner than we would be woken */
#define LOOK_MS	     10 /* how often a thread that does not stop is looked at */

int stop_interrupt(pid_t tid)
{
	return ptrace_insist(PTRACE_INTERRUPT, tid, NULL, NULL);
}

int stop_resume(pid_t tid, int how, int sig)
{
	return ptrace_insist(how, tid, NULL, (void *)(intptr_t)sig);
}

void stops_watch(sigset_t *saved)
{
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &chld, saved);
}

void stops_unwatch(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

bool stops_sleep(unsigned ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000L};
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	return sigtimedwait(&chld, NULL, &t) == SIGCHLD;
}

static int status_of(const siginfo_t *i)
{
	switch (i->si_code) {
	case CLD_EXITED:
		return i->si_status << 8;
	case CLD_KILLED:
		return i->si_status;
	case CLD_DUMPED:
		return i->si_status | 0x80;
	default:
		return i->si_status << 8 | 0x7f;
	}
}

/* For when wait4(2) is denied: not to hear of stops would mean to let go of threads on their frames
 * and in the mailbox as if they were dead. */
static pid_t wait_tid_by_waitid(pid_t tid, int *status, int flags)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t)tid, &info, WEXITED | WSTOPPED | __WALL | flags))
		return -1;
	*status = status_of(&info);
	return info.si_pid;
}

static pid_t wait_tid(pid_t tid, int *status, int flags)
{
	pid_t r;

	do {
		r = waitpid(tid, status, __WALL | flags);
		if (r < 0 && errno != EINTR && errno != ECHILD)
			r = wait_tid_by_waitid(tid, status, flags);
	} while (r < 0 && errno == EINTR);
	return r;
}

bool stop_is_zombie(pid_t tid)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;

	return proc_open(-1, tid, 0, &dir, NULL) == 0 && proc_stat(dir, &st, NULL) == 0 &&
	       proc_is_dead(st.state);
}

/* A leader that was killed is not waited for before its other threads are, which we trace too
 * (kernel/exit.c, delay_group_leader): a plain wait would not end. SIGCHLD tells of most stops at once. */
static pid_t wait_or_see_dead(pid_t tid, int *status)
{
	uint64_t end = monotonic_ns() + SPIN_NS;
	sigset_t saved;
	pid_t r;

	do {
		r = wait_tid(tid, status, WNOHANG);
	} while (r == 0 && monotonic_ns() < end);
	if (r)
		return r;
	stops_watch(&saved);
	while ((r = wait_tid(tid, status, WNOHANG)) == 0) {
		if (!stops_sleep(LOOK_MS) && stop_is_zombie(tid)) {
			/* It may have stopped or been reaped between the two looks. */
			r = wait_tid(tid, status, WNOHANG);
			break;
		}
	}
	stops_unwatch(&saved);
	return r == 0 ? -1 : r;
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

enum stop stop_poll(struct tracee_thread *th)
{
	int status;
	pid_t r;

	for (;;) {
		r = wait_tid(th->tid, &status, WNOHANG);
		if (r == 0)
			return STOP_NONE;
		if (r < 0 || !WIFSTOPPED(status))
			return STOP_GONE;
		if (is_event_stop(status)) {
			th->in_group_stop = WSTOPSIG(status) != SIGTRAP;
			th->stop_signal = th->in_group_stop ? WSTOPSIG(status) : 0;
			return STOP_TRAP;
		}
		/* A signal that was on its way: it arrives, and the trap comes right after. */
		if (stop_resume(th->tid, PTRACE_CONT, WSTOPSIG(status)) == -ESRCH)
			continue; /* killed: the status comes */
	}
}

static enum stop classify(struct tracee_thread *th, int status)
{
	if (!WIFSTOPPED(status))
		return STOP_GONE;
	if (is_event_stop(status))
		return STOP_TRAP;
	if (WSTOPSIG(status) == SYSCALL_STOP)
		return STOP_SYSCALL;
	if (WSTOPSIG(status) == SIGSTOP)
		th->stop_again = true;
	return STOP_NONE;
}

static enum stop steered(struct tracee_thread *th, int resume, int flags)
{
	enum stop stop;
	int status;
	pid_t r;

	for (;;) {
		r = flags & WNOHANG ? wait_tid(th->tid, &status, flags) :
				      wait_or_see_dead(th->tid, &status);
		if (r == 0)
			return stop_is_zombie(th->tid) ? STOP_GONE : STOP_NONE;
		stop = r < 0 ? STOP_GONE : classify(th, status);
		if (stop != STOP_NONE)
			return stop;
		stop_resume(th->tid, resume, 0);
	}
}

enum stop stop_wait_steered(struct tracee_thread *th, int resume)
{
	return steered(th, resume, 0);
}

enum stop stop_poll_steered(struct tracee_thread *th, int resume)
{
	return steered(th, resume, WNOHANG);
}
