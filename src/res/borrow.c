/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Borrowing: what can only be seen by taking it is taken and put back by one batch, which is run to its end
 * by the task that runs it even if cpx is killed. Until then nobody else in the tree may run, but those that we trace do
 * when we are gone. So a child of ours, the guard, traces us meanwhile: should we be killed, we stop at PTRACE_EVENT_EXIT,
 * where we still hold all others, and the guard lets us end when the batch is done.
 */
#include "res/files.h"
#include "tracee/mailbox.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int files_borrow(struct dump_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->files->n; i++)
		if (c->files->entry[i]->ops->borrow)
			r = c->files->entry[i]->ops->borrow(c, c->files->entry[i]->file, err);
	return r;
}

/* ---- in the guard ---- */

struct guard {
	pid_t pid;
	int sock; /* our end; closed at the end of the guard's work */
};

static void hold(struct tracee *t)
{
	struct lane *lane = mailbox_lane(&t->mailbox, 0);
	struct pollfd dead = {.fd = t->pidfd, .events = POLLIN};

	while (lane_is_running(lane) && !lane_is_done(lane, 20) && poll(&dead, 1, 0) == 0)
		;
	_exit(0);
}

/* All other stops are none of its business. */
static void look_after(pid_t cpx, struct tracee *t)
{
	int status, event;

	while (waitpid(cpx, &status, __WALL | WNOHANG) > 0) {
		if (!WIFSTOPPED(status))
			_exit(0);
		event = status >> 16;
		if (event == PTRACE_EVENT_EXIT)
			hold(t);
		if (event == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP)
			ptrace(PTRACE_LISTEN, cpx, 0, 0);
		else
			ptrace(PTRACE_CONT, cpx, 0, event ? 0 : WSTOPSIG(status));
	}
}

/* It is told to begin when we allow it to trace us (Yama), and says how that went. */
static _Noreturn void guard(int sock, pid_t cpx, struct tracee *t)
{
	struct pollfd pfd = {.fd = sock, .events = POLLIN};
	char reply = 0;

	setsid();
	if (read(sock, &reply, 1) != 1)
		_exit(1);
	reply = ptrace(PTRACE_SEIZE, cpx, 0, PTRACE_O_TRACEEXIT) < 0 ? errno : 0;
	if (write(sock, &reply, 1) != 1 || reply)
		_exit(1);
	while (poll(&pfd, 1, 1) == 0)
		look_after(cpx, t);
	_exit(0);
}

/* ---- in cpx ---- */

static void guard_end(struct guard *g)
{
	prctl(PR_SET_PTRACER, 0);
	close(g->sock);
	while (waitpid(g->pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

static int guard_begin(struct guard *g, struct tracee *t, struct err *err)
{
	pid_t cpx = syscall(SYS_gettid);
	char reply = 0;
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
		return err_sys(err, -errno, "cannot make a socket");
	g->pid = syscall(SYS_clone, 0, 0, 0, 0, 0); /* its end is not told by SIGCHLD */
	if (g->pid == 0) {
		close(sock[0]);
		guard(sock[1], cpx, t);
	}
	close(sock[1]);
	g->sock = sock[0];
	if (g->pid < 0) {
		close(g->sock);
		return err_sys(err, -errno, "cannot make a guard");
	}
	prctl(PR_SET_PTRACER, g->pid);
	if (write(g->sock, &reply, 1) == 1 && read(g->sock, &reply, 1) == 1 && !reply)
		return 0;
	guard_end(g);
	return err_set(err, -EPERM, "cpx is being traced, or may not be by its own");
}

int borrow_run(struct tracee *t, const struct batch *b, struct err *err)
{
	struct guard g;
	int r = guard_begin(&g, t, err);

	if (r < 0)
		return r;
	r = tracee_run(t, b, err);
	guard_end(&g);
	return r;
}
