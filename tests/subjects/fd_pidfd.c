/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* pidfds of oneself, of children, of a thread, of a zombie and of a process that was reaped; watched by an epoll,
 * inherited. */
#include "subject.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define THREAD O_EXCL

static int own, of_child, of_zombie, of_dead, of_killed, of_thread, ep;

static int open_pidfd(pid_t pid, unsigned flags)
{
	return MUST(syscall(SYS_pidfd_open, pid, flags));
}

static bool has_ended(int fd)
{
	return poll(&(struct pollfd){fd, POLLIN, 0}, 1, 0) == 1;
}

static int sig(int fd, int signo)
{
	return syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) < 0 ? -errno : 0;
}

static int waiting_child(void *arg)
{
	subject_child_ready();
	for (;;)
		pause();
	return 0;
}

/* How a reaped one has ended (PIDFD_GET_INFO since Linux 6.15); what is expected, where it is not told. */
static int status_of(int fd, int expected)
{
	struct {
		uint64_t mask, cgroup;
		uint32_t ids[11];
		int32_t exit_code;
	} info = {.mask = 8 /* PIDFD_INFO_EXIT */};

	if (ioctl(fd, _IOWR(0xFF, 11, info), &info) < 0 || !(info.mask & 8))
		return expected;
	return info.exit_code;
}

/* It has inherited the pidfd of its parent and that of its elder sister. */
static int heir(void *arg)
{
	subject_child_ready();
	while (!has_ended(of_child))
		subject_sleep_ms(1);
	CHECK_EQ(sig(own, 0), 0);
	return 0;
}

static pid_t reaped(int *ret_fd, bool is_killed)
{
	pid_t pid = MUST(fork());

	if (pid == 0 && is_killed)
		for (;;)
			pause();
	if (pid == 0)
		_exit(3);
	*ret_fd = open_pidfd(pid, 0);
	if (is_killed)
		MUST(kill(pid, SIGTERM));
	MUST(waitpid(pid, NULL, 0));
	return pid;
}

static void *sleeper(void *arg)
{
	*(pid_t *)arg = gettid();
	for (;;)
		pause();
	return NULL;
}

static void add(int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = {.events = events, .data.u64 = data};

	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static uint64_t only(void)
{
	struct epoll_event ev[4];

	CHECK_EQ(epoll_wait(ep, ev, 4, 5000), 1);
	return ev[0].data.u64;
}

int main(int argc, char **argv)
{
	pid_t child, zombie, other;
	static volatile pid_t tid;
	struct epoll_event ev;
	siginfo_t si;
	int copy;

	subject_init(argc, argv);
	subject_thread(sleeper, (void *)&tid);
	while (!tid)
		subject_sleep_ms(1);
	own = open_pidfd(getpid(), 0);
	child = subject_fork(waiting_child, NULL);
	of_child = open_pidfd(child, O_NONBLOCK);
	zombie = MUST(fork());
	if (zombie == 0)
		_exit(7);
	of_zombie = open_pidfd(zombie, 0);
	subject_await_state(zombie, zombie, 'Z');
	reaped(&of_dead, false);
	reaped(&of_killed, true);
	of_thread = syscall(SYS_pidfd_open, tid, THREAD);
	if (of_thread < 0)
		subject_skip("no PIDFD_THREAD before Linux 6.9");
	copy = MUST(dup(of_child));
	ep = MUST(epoll_create1(EPOLL_CLOEXEC));
	add(of_zombie, EPOLLIN | EPOLLONESHOT, 1);
	CHECK_EQ(only(), 1);
	add(of_child, EPOLLIN, 2);
	other = subject_fork(heir, NULL);
	subject_await_state(other, other, 'S');
	subject_ready();
	subject_wait();
	CHECK_EQ(sig(own, 0), 0);
	CHECK(!has_ended(own) && !has_ended(of_child) && !has_ended(of_thread), "ended");
	CHECK(has_ended(of_zombie) && has_ended(of_dead) && has_ended(of_killed), "not ended");
	CHECK_EQ(fcntl(of_child, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	CHECK_EQ(fcntl(own, F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ(fcntl(of_thread, F_GETFL) & THREAD, THREAD);
	CHECK_EQ(fcntl(own, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(copy, F_GETFD), 0);
	CHECK_EQ(sig(of_dead, 0), -ESRCH);
	CHECK_EQ(status_of(of_dead, 3 << 8), 3 << 8);
	CHECK_EQ(status_of(of_killed, SIGTERM), SIGTERM);
	CHECK_EQ(sig(of_thread, 0), 0);
	CHECK_EQ(waitid(P_PIDFD, of_dead, &si, WEXITED), -1);
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(waitid(P_PIDFD, of_child, &si, WEXITED), -1);
	CHECK_EQ(errno, EAGAIN);
	MUST(waitid(P_PIDFD, of_zombie, &si, WEXITED));
	CHECK_EQ(si.si_pid, zombie);
	CHECK_EQ(si.si_status, 7);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	CHECK_EQ(sig(copy, SIGKILL), 0);
	CHECK_EQ(only(), 2);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	subject_join(other);
	subject_pass();
}
