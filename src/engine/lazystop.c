/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the image cannot be read any more: the tree is stopped (SIGSTOP), with all that it has forked since, and
 * goes on (SIGCONT) when the image can be read again. Those who were stopped before stay so. What cannot be found
 * here, a daemon that has left the tree, waits all the same for the memory that it touches.
 */
#include "engine/lazy.h"

#include "base/log.h"
#include "base/util.h"
#include "engine/nspace.h"
#include "proc/proc.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <syslog.h>

struct pids {
	pid_t *pid;
	size_t n, max;
};

static void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void tell(const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_warn("%s", line);
	openlog("cpx", LOG_PID, LOG_DAEMON);
	syslog(LOG_ERR, "%s", line);
	closelog();
}

static bool has_pid(const struct pids *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->pid[i] == pid)
			return true;
	return false;
}

static void add_pid(struct pids *l, pid_t pid)
{
	if (!has_pid(l, pid) && grow(&l->pid, &l->max, l->n, sizeof(*l->pid)) == 0)
		l->pid[l->n++] = pid;
}

/* A traced one, too: just before it is let go of it is in a stop of ours, and the signal waits. */
static bool can_be_stopped(pid_t pid, char *comm, size_t size)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st = {0};

	return proc_open(-1, pid, 0, &dir, NULL) == 0 && proc_stat(dir, &st, NULL) == 0 &&
	       !proc_is_dead(st.state) && st.state != 'T' &&
	       proc_comm(dir, comm, size, NULL) == 0;
}

/* In the list first: whom we have stopped is never forgotten. */
static void stop_one(struct lazy_state *st, pid_t pid, char *comm, size_t size)
{
	int pidfd;

	if (!can_be_stopped(pid, comm, size) || st->nstopped == LAZY_MAX_STOPPED)
		return;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return;
	st->stopped[st->nstopped] = pidfd;
	__atomic_store_n(&st->nstopped, st->nstopped + 1, __ATOMIC_RELEASE);
	syscall(SYS_pidfd_send_signal, pidfd, SIGSTOP, NULL, 0);
}

static void add_children(struct pids *l, pid_t pid)
{
	pid_t *child = NULL;
	size_t n = 0;

	if (proc_children_of(-1, pid, &child, &n, NULL) == 0)
		for (size_t i = 0; i < n; i++)
			add_pid(l, child[i]);
	free(child);
}

static void find_tasks(const struct lazy_server *s, struct pids *l)
{
	pid_t pid;

	for (size_t i = 0; i < s->ntasks; i++)
		if (pidfd_to_pid(s->task[i], &pid, NULL) == 0)
			add_pid(l, pid);
}

/* Again until nobody new is found: a task may have forked just before it stopped. */
static void stop_all(struct lazy_server *s, struct pids *l, char *comm, size_t size)
{
	char other[32];
	size_t n;

	do {
		n = l->n;
		for (size_t i = 0; i < l->n; i++) {
			stop_one(s->st, l->pid[i], i == 0 && !*comm ? comm : other, size);
			add_children(l, l->pid[i]);
		}
	} while (l->n > n);
}

void lazy_stop_tree(struct lazy_server *s, const struct err *why)
{
	struct pids l = {0};
	char comm[32] = "";

	if (s->st->is_stopped)
		return;
	find_tasks(s, &l);
	stop_all(s, &l, comm, sizeof(comm));
	if (l.n)
		tell("task %d (%s) and all of its tree are stopped, for memory of theirs is missing: '%s': %s; "
		     "they go on by themselves when it can be read again (it is tried every second), or "
		     "end them (kill -9 %d) and restore from a good image",
		     l.pid[0], comm, s->path, why->msg, l.pid[0]);
	free(l.pid);
	s->st->is_stopped = true;
}

void lazy_resume_tree(struct lazy_server *s)
{
	struct lazy_state *st = s->st;

	for (; st->nstopped; st->nstopped--) {
		syscall(SYS_pidfd_send_signal, st->stopped[st->nstopped - 1], SIGCONT, NULL, 0);
		close(st->stopped[st->nstopped - 1]);
	}
	if (st->is_stopped)
		tell("'%s' can be read again: what was stopped goes on", s->path);
	st->is_stopped = false;
}
