/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attaching to one thread, without deadlock.
 *
 * PTRACE_SEIZE waits for the target's cred_guard_mutex (kernel/ptrace.c, ptrace_attach), which a
 * thread that calls execve(2) holds until all other threads of its task are reaped (fs/exec.c,
 * de_thread), and those that we trace already are for us to reap: both would wait for ever. So a
 * timer's signal comes again and again while we seize, and its handler reaps them; the wait for the
 * mutex starts anew after a signal.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUARD_SIGNAL SIGRTMAX
#define GUARD_NS     2000000

static _Thread_local const struct tracee *volatile seizing;

/* A tracer is told of stops even if it asks for ends alone (kernel/exit.c, wait_task_stopped), and
 * the stops must stay to be waited for: so a look without taking comes first. */
static bool is_dead(pid_t tid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)tid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
	       (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED ||
		info.si_code == CLD_DUMPED);
}

/* Not the leader: it does not keep an execve waiting, and may be a child of our own. */
static void reap_dead(int signo)
{
	const struct tracee *t = seizing;
	int saved = errno;

	for (size_t i = 0; t && i < t->nthreads; i++)
		if (t->thread[i].tid != t->pid && is_dead(t->thread[i].tid))
			waitpid(t->thread[i].tid, NULL, __WALL | WNOHANG);
	errno = saved;
}

int seize_guard(struct seize_guard *g, struct err *err)
{
	struct sigaction sa = {.sa_handler = reap_dead, .sa_flags = SA_RESTART};
	struct itimerspec every = {{0, GUARD_NS}, {0, GUARD_NS}};
	struct sigevent to_us = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = GUARD_SIGNAL};
	sigset_t set;

	to_us._sigev_un._tid = gettid();
	if (timer_create(CLOCK_MONOTONIC, &to_us, &g->timer))
		return err_sys(err, -errno, "cannot make a timer");
	sigaction(GUARD_SIGNAL, &sa, &g->action);
	sigemptyset(&set);
	sigaddset(&set, GUARD_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, &g->mask);
	timer_settime(g->timer, 0, &every, NULL);
	return 0;
}

void seize_unguard(const struct seize_guard *g)
{
	bool is_over = timer_delete(g->timer) == 0;

	pthread_sigmask(SIG_SETMASK, &g->mask, NULL);
	if (is_over) /* else its signal would end us */
		sigaction(GUARD_SIGNAL, &g->action, NULL);
}

static int attach(const struct tracee *t, pid_t tid)
{
	int r;

	seizing = t;
	/* Without PTRACE_O_EXITKILL: our death must not be the task's. Without any
	 * PTRACE_O_TRACECLONE and the like: what it creates must not be attached by itself. */
	r = ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) ? -errno : 0;
	seizing = NULL;
	return r;
}

/* ---- why it failed ---- */

static void comm_of(pid_t pid, char *buf, size_t size)
{
	_cleanup_close_ int dir = -1;

	if (proc_open(-1, pid, 0, &dir, NULL) || proc_comm(dir, buf, size, NULL))
		snprintf(buf, size, "?");
}

static int explain(const struct proc_status *st, int code, struct err *err)
{
	char tracer[64];

	if (st->tracer_pid) {
		comm_of(st->tracer_pid, tracer, sizeof(tracer));
		return err_set(err, -EALREADY, "is traced already, by task %d (%s)", st->tracer_pid,
			       tracer);
	}
	if (st->uid[0] != geteuid() || st->uid[1] != geteuid() || st->uid[2] != geteuid())
		return err_sys(err, code, "cannot attach (it belongs to user %d; root may)",
			       st->uid[0]);
	return err_sys(err, code,
		       "cannot attach (it may be undumpable, as set-user-ID programs are, or a "
		       "security module such as Yama forbids it; root may)");
}

int seize_explain(int dir, int code, struct err *err)
{
	struct proc_status st = {0};
	int r = proc_status(dir, &st, err);

	if (r == 0)
		r = explain(&st, code, err);
	proc_status_release(&st);
	return r;
}

/* Gone, an exited leader, ours already, or a reason to give up. */
static int failed(const struct tracee *t, struct tracee_thread *th, int code, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_status st = {0};
	int r = 0;

	if (proc_open(-1, t->pid, th->tid, &dir, NULL) || proc_status(dir, &st, NULL)) {
		th->where = THREAD_GONE;
	} else if (proc_is_dead(st.state)) {
		th->is_exited = th->tid == t->pid;
		th->where = th->is_exited ? THREAD_STOPPED : THREAD_GONE;
	} else if (st.tracer_pid != gettid()) {
		r = explain(&st, code, err);
	} /* else we seized it under the number it had before its execve */
	proc_status_release(&st);
	return r;
}

/* EPERM is also the answer for a leader that has exited; a thread that called execve may take its
 * number over before we can look, and can be seized then. */
#define TRIES 3

int seize_thread(const struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r = -EPERM;

	for (int i = 0; r == -EPERM && i < TRIES; i++) {
		int code = attach(t, th->tid);

		r = code ? failed(t, th, code, err) : 0;
	}
	if (r == 0 && th->where == THREAD_SEIZED)
		stop_interrupt(th->tid);
	return r;
}
