/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single ptrace stops: ptrace(2), "Stopped states" and "PTRACE_SEIZE".
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)

uint64_t monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

int stop_seize(pid_t tid)
{
	/* Without PTRACE_O_EXITKILL: our death must not be the task's. Without any
	 * PTRACE_O_TRACECLONE and the like: what it creates must not be attached by itself. */
	return ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) ? -errno : 0;
}

int stop_interrupt(pid_t tid)
{
	return ptrace(PTRACE_INTERRUPT, tid, 0, 0) ? -errno : 0;
}

static pid_t wait_tid(pid_t tid, int *status, int flags)
{
	pid_t r;

	do {
		r = waitpid(tid, status, __WALL | flags);
	} while (r < 0 && errno == EINTR);
	return r;
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
		if (ptrace(PTRACE_CONT, th->tid, 0, WSTOPSIG(status)) && errno == ESRCH)
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
		r = wait_tid(th->tid, &status, flags);
		if (r == 0)
			return STOP_NONE;
		stop = r < 0 ? STOP_GONE : classify(th, status);
		if (stop != STOP_NONE)
			return stop;
		ptrace(resume, th->tid, 0, 0);
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
