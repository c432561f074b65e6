/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Letting a frozen tree go. Nothing here fails: a task that was killed meanwhile is passed over.
 *
 * A task in a group stop is stopped again by the detach itself, and nobody is told a second time
 * (kernel/ptrace.c, __ptrace_unlink; kernel/signal.c, do_signal_stop).
 */
#include "tracee/tracee_priv.h"

#include "base/log.h"
#include "base/util.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define GRACE_NS 1000000000ULL

/* After a failed freeze some threads are still on their way to the stop, and only stopped ones can
 * be let go. What does not come is let go by the kernel when we exit. */
static void wait_for_stops(struct tracee *t)
{
	uint64_t deadline = monotonic_ns() + GRACE_NS;
	struct timespec pause = {.tv_nsec = 100000};

	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];
		enum stop s = STOP_NONE;

		if (th->where != THREAD_SEIZED)
			continue;
		while (s == STOP_NONE && monotonic_ns() < deadline) {
			s = stop_poll(th);
			if (s == STOP_NONE)
				nanosleep(&pause, NULL);
		}
		if (s != STOP_NONE)
			th->where = s == STOP_GONE ? THREAD_GONE : THREAD_STOPPED;
		else
			log_warn("task %d (%s): thread %d does not stop and is let go at the end",
				 t->pid, t->comm, th->tid);
	}
}

static void back_to_freeze(struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];

		steer_end(t, th, NULL);
		if (th->saved)
			inject_unframe(t, th);
	}
}

static void send(const struct tracee *t, int sig)
{
	syscall(SYS_pidfd_send_signal, t->pidfd, sig, NULL, 0);
}

static bool wants_stop(const struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->thread[i].stop_again)
			return true;
	return false;
}

static void detach(struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];

		if (th->where == THREAD_GONE || th->is_exited)
			continue;
		/* Killed: the wait makes it its parent's. */
		if (stop_resume(th->tid, PTRACE_DETACH, 0) == -ESRCH)
			waitpid(th->tid, NULL, __WALL | WNOHANG);
		th->where = THREAD_GONE;
	}
}

static void reap(struct tracee *t)
{
	for (size_t i = t->nthreads; i-- > 0;) {
		struct tracee_thread *th = &t->thread[i];
		int status;
		pid_t r = 0;

		/* The leader last: it is a zombie only when the others are. */
		while (th->where != THREAD_GONE && !th->is_exited && r >= 0) {
			r = waitpid(th->tid, &status, __WALL);
			if (r > 0 && !WIFSTOPPED(status))
				break;
			if (r < 0 && errno == EINTR)
				r = 0;
		}
		th->where = THREAD_GONE;
	}
}

static bool was_stopped(const struct tracee *t)
{
	return t->nthreads && t->thread[0].in_group_stop;
}

static void thaw_task(struct tracee *t, enum thaw_mode mode)
{
	if (mode == THAW_KILL) {
		reap(t);
		return;
	}
	if (wants_stop(t) || (mode == THAW_STOP && !was_stopped(t)))
		send(t, SIGSTOP);
	detach(t);
}

void tree_thaw(struct tree *tree, enum thaw_mode mode)
{
	bool is_first = !tree->thawed_at_ns;

	if (mode != THAW_KILL)
		inject_eject_all(tree);
	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];

		if (t->is_zombie)
			continue;
		if (mode == THAW_KILL) {
			if (is_first)
				send(t, SIGKILL);
			continue;
		}
		wait_for_stops(t);
		back_to_freeze(t);
	}
	for (size_t i = 0; i < tree->n; i++)
		if (!tree->task[i]->is_zombie)
			thaw_task(tree->task[i], mode);
	if (mode == THAW_KILL)
		inject_eject_all(tree);
	if (is_first && tree->n)
		tree->thawed_at_ns = monotonic_ns();
	inject_close_all(tree);
}
