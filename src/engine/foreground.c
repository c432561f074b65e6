/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals are taken synchronously (signalfd(2)). What the terminal sends goes to its foreground group, the
 * restored tree, by itself; what a process sends to us is meant for the tree and is passed on.
 */
#include "engine/foreground.h"

#include "base/util.h"
#include "engine/nspace.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const int passed_on[] = {SIGHUP,	 SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
				SIGUSR2, SIGALRM, SIGCONT, SIGTSTP, SIGWINCH};

static void send_root(const struct foreground *f, int signo)
{
	if (f->coordinator)
		syscall(SYS_pidfd_send_signal, f->root_pidfd, signo, NULL, 0);
	else
		kill(f->root, signo);
}

static bool has_terminal(const struct foreground *f)
{
	return f->tty_fd >= 0 && tcgetpgrp(f->tty_fd) == getpgid(f->root);
}

static void on_signal(const struct foreground *f, const struct signalfd_siginfo *s)
{
	if (s->ssi_signo == SIGCHLD || (s->ssi_code == SI_KERNEL && has_terminal(f)))
		return;
	send_root(f, s->ssi_signo);
}

/* Stopped at the terminal (^Z), as a whole group: we stop too, so that the shell takes over, and go on with it. In the
 * background it was for want of the terminal, which is then another job's. */
static void follow_stop(const struct foreground *f)
{
	struct terminal_state at_stop;
	pid_t group = getpgid(f->root);
	bool had_terminal = has_terminal(f);

	if (f->tty_fd < 0 || !isatty(f->tty_fd))
		return;
	terminal_save(f->tty_fd, &at_stop);
	if (had_terminal)
		terminal_restore(f->tty_fd, f->terminal);
	if (had_terminal || at_stop.foreground != getpgrp())
		raise(SIGSTOP);
	if (tcgetpgrp(f->tty_fd) != getpgrp())
		; /* it goes on in the background */
	else if (had_terminal)
		terminal_restore(f->tty_fd, &at_stop);
	else
		tcsetpgrp(f->tty_fd, group);
	kill(-group, SIGCONT);
}

/* Unless another job has it. */
static void give_terminal_back(const struct foreground *f)
{
	pid_t group = f->tty_fd < 0 ? -1 : tcgetpgrp(f->tty_fd);

	if (f->terminal->foreground == getpgrp() || (group > 0 && kill(-group, 0) < 0))
		terminal_restore(f->tty_fd, f->terminal);
}

/* 1: it has ended. */
static int look_at_child(const struct foreground *f, int *ret_status)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(f->root, &status, WNOHANG | WUNTRACED)) > 0) {
		if (!WIFSTOPPED(status)) {
			*ret_status = status;
			return 1;
		}
		follow_stop(f);
	}
	return 0;
}

static int look_at_channel(const struct foreground *f, int *ret_status, struct err *err)
{
	struct report r;
	int fd = -1, ret = report_receive(f->channel, &r, &fd, err);

	if (fd >= 0)
		close(fd);
	if (ret < 0)
		return ret == -EINTR ? 0 : ret;
	if (r.what == REPORT_STOPPED)
		follow_stop(f);
	*ret_status = r.status;
	return r.what == REPORT_ENDED;
}

static int wait_loop(const struct foreground *f, int sigfd, int *ret_status, struct err *err)
{
	struct pollfd p[2] = {{sigfd, POLLIN, 0}, {f->coordinator ? f->channel : -1, POLLIN, 0}};
	struct signalfd_siginfo s;
	int r = f->coordinator ? 0 : look_at_child(f, ret_status);

	while (r == 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(err, -errno, "cannot wait for the restored tree");
		while (read(sigfd, &s, sizeof(s)) == sizeof(s))
			on_signal(f, &s);
		if (!f->coordinator)
			r = look_at_child(f, ret_status);
		else if (p[1].revents)
			r = look_at_channel(f, ret_status, err);
	}
	return r;
}

static void reap_coordinator(const struct foreground *f)
{
	if (f->coordinator)
		waitpid(f->coordinator, NULL, WNOHANG);
}

int foreground_wait(const struct foreground *f, int *ret_status, struct err *err)
{
	_cleanup_close_ int sigfd = -1;
	sigset_t set, old;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = sigfd < 0 ? err_sys(err, -errno, "cannot make a signalfd") :
			wait_loop(f, sigfd, ret_status, err);
	reap_coordinator(f);
	give_terminal_back(f);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r < 0 ? r : 0;
}
