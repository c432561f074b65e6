/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The processes behind restore --lazy. The server is nobody's child and leads a session; all signals but SIGKILL are
 * blocked. Its guard is a clone with the same descriptors (CLONE_FILES) that sleeps until the
 * server has died (pidfd), and is the server then. A userfaultfd is closed only when both have gone.
 */
#include "engine/lazy.h"

#include "base/util.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- notes ------------------------------------------------------------------------------------ */

union fd_control {
	struct cmsghdr hdr;
	char buf[CMSG_SPACE(sizeof(int))];
};

int lazy_send(int channel, const struct lazy_note *n, int fd, struct err *err)
{
	struct iovec io = {(void *)n, sizeof(*n)};
	union fd_control c = {0};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = c.buf;
		m.msg_controllen = sizeof(c.buf);
		c.hdr = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&c.hdr), &fd, sizeof(int));
	}
	while (sendmsg(channel, &m, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot reach the server of memory");
	return 0;
}

int lazy_receive(int channel, struct lazy_note *ret, int *ret_fd, struct err *err)
{
	struct iovec io = {ret, sizeof(*ret)};
	union fd_control c = {0};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = c.buf,
			   .msg_controllen = sizeof(c.buf)};
	ssize_t n;

	while ((n = recvmsg(channel, &m, MSG_CMSG_CLOEXEC)) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot hear from the other side");
	if (n != sizeof(*ret))
		return err_set(err, -ENODATA, "the server of memory ended unexpectedly");
	*ret_fd = -1;
	if (m.msg_controllen >= CMSG_LEN(sizeof(int)) && c.hdr.cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(&c.hdr), sizeof(int));
	return 0;
}

/* ---- a process that stands alone ---------------------------------------------------------------- */

/* What a daemon may keep: a terminal or a file, not a pipe whose reader waits for its end. */
static bool may_keep_stderr(void)
{
	struct stat st;

	return isatty(2) || (fstat(2, &st) == 0 && S_ISREG(st.st_mode));
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void add_fd(int *fd, size_t *n, int one)
{
	for (size_t i = 0; i < *n; i++)
		if (fd[i] == one)
			return;
	fd[(*n)++] = one;
}

/* Nothing else of the user's is held open: a pipe would never end. */
static int close_others(const struct lazy_server *s, struct err *err)
{
	_cleanup_free_ int *keep = calloc(s->image->nchunks + 4, sizeof(*keep));
	size_t n = 0;
	int at = 0;

	if (!keep)
		return err_nomem(err);
	for (int fd = 0; fd < 3; fd++)
		add_fd(keep, &n, fd);
	add_fd(keep, &n, s->channel);
	for (size_t i = 0; i < s->image->nchunks; i++)
		if (i == 0 || s->image->chunk[i].image != s->image->chunk[i - 1].image)
			add_fd(keep, &n, s->image->chunk[i].image->source->fd);
	qsort(keep, n, sizeof(*keep), by_number);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] > at)
			close_range((unsigned)at, (unsigned)keep[i] - 1, 0);
		at = keep[i] + 1;
	}
	close_range((unsigned)at, ~0U, 0);
	return 0;
}

static void redirect(bool to_stderr)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd < 3 && null >= 0; fd++)
		if (fd < 2 || !(to_stderr || may_keep_stderr()))
			dup2(null, fd);
}

/* A descriptor for each space; what the kernel kills last. Without either it still works. */
static void ask_for_more(void)
{
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	struct rlimit l;

	if (fd >= 0 && write(fd, "-1000", 5) < 0)
		errno = 0;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int stand_alone(struct lazy_server *s, bool to_stderr, struct err *err)
{
	sigset_t all;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "cpx-lazy");
	redirect(to_stderr);
	ask_for_more();
	return chdir("/") < 0 ? err_sys(err, -errno, "cannot go to /") : close_others(s, err);
}

/* ---- the guard ------------------------------------------------------------------------------------ */

int lazy_watch(struct lazy_server *s, int fd, uint32_t what, struct err *err)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = what};

	if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "cannot watch a descriptor");
	return 0;
}

static int new_epoll(struct lazy_server *s, struct err *err)
{
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	return s->epfd < 0 ? err_sys(err, -errno, "cannot make an epoll") : 0;
}

static void serve_to_the_end(struct lazy_server *s) __attribute__((noreturn));

static void serve_to_the_end(struct lazy_server *s)
{
	struct err err = ERR_INIT;

	_exit(lazy_serve(s, &err) < 0);
}

/* What cannot be done now is tried again: to give up would be to close the userfaultfds. */
static void take_over(struct lazy_server *s) __attribute__((noreturn));

static void take_over(struct lazy_server *s)
{
	struct err err = ERR_INIT;

	lazy_close_ended(s); /* before their numbers are used again */
	close(s->epfd);
	close(TAKE_FD(s->own_pidfd));
	while (new_epoll(s, &err) < 0 || lazy_repair(s, &err) < 0) {
		lazy_stop_tree(s, &err);
		poll(NULL, 0, 1000);
	}
	serve_to_the_end(s);
}

static void guard(struct lazy_server *s) __attribute__((noreturn));

static void guard(struct lazy_server *s)
{
	struct pollfd p = {.fd = s->own_pidfd, .events = POLLIN};

	prctl(PR_SET_NAME, "cpx-lazy-guard");
	s->guard = 0;
	s->guard_pidfd = -1;
	while (poll(&p, 1, -1) < 0)
		;
	if (s->st->is_done)
		_exit(0);
	prctl(PR_SET_NAME, "cpx-lazy");
	take_over(s);
}

int lazy_make_guard(struct lazy_server *s, struct err *err)
{
	struct clone_args a = {.flags = CLONE_FILES | CLONE_PIDFD, .exit_signal = SIGCHLD,
			       .pidfd = (uint64_t)&s->guard_pidfd};
	pid_t pid;

	if (s->own_pidfd < 0)
		s->own_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (s->own_pidfd < 0)
		return err_sys(err, -errno, "cannot open a pidfd");
	pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0)
		guard(s);
	if (pid < 0)
		return err_sys(err, -errno, "cannot make a guard of memory");
	s->guard = pid;
	return lazy_watch(s, s->guard_pidfd, LAZY_WATCH_GUARD, err);
}

/* ---- the server ------------------------------------------------------------------------------------ */

static int prepare(struct lazy_server *s, const struct lazy_choice *c, bool to_stderr, struct err *err)
{
	int r = stand_alone(s, to_stderr, err);

	if (r == 0)
		r = lazy_state_new(&s->st, err);
	for (size_t i = 0; i < s->image->nmms && r == 0; i++)
		r = lazy_space_add(s->st, s->image, c, s->image->mm[i]->id, err);
	if (r == 0)
		r = new_epoll(s, err);
	return r < 0 ? r : lazy_watch(s, s->channel, LAZY_WATCH_CHANNEL, err);
}

void lazy_server_run(struct lazy_server *s, const struct lazy_choice *c, bool to_stderr)
{
	struct lazy_note failed = {.what = NOTE_FAILED};
	int r = prepare(s, c, to_stderr, &failed.err);

	if (r == 0)
		r = lazy_serve(s, &failed.err);
	if (r < 0)
		lazy_send(s->channel, &failed, -1, NULL);
	_exit(r < 0);
}
