/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* signalfd: masks, signals that wait to be read, threads that wait for signals. */
#include "subject.h"

#include <sys/signalfd.h>

static int first, second, waited;

static int open_mask(int a, int b, int flags)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, a);
	sigaddset(&set, b);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	return MUST(signalfd(-1, &set, flags));
}

static int take(int fd)
{
	struct signalfd_siginfo si;

	return read(fd, &si, sizeof(si)) == sizeof(si) ? (int)si.ssi_signo + 100 * si.ssi_int : -errno;
}

static void *reader(void *arg)
{
	CHECK_EQ(take(waited), SIGRTMIN + 3 + 4200);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;
	pid_t tid;

	subject_init(argc, argv);
	first = open_mask(SIGUSR1, SIGRTMIN, SFD_NONBLOCK);
	second = open_mask(SIGUSR2, SIGRTMAX, SFD_NONBLOCK | SFD_CLOEXEC);
	waited = open_mask(SIGRTMIN + 3, SIGRTMIN + 4, 0);
	MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1}));
	MUST(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 2}));
	MUST(kill(getpid(), SIGUSR2));
	t = subject_thread(reader, NULL);
	for (tid = getpid() + 1; syscall(SYS_tgkill, getpid(), tid, 0); tid++)
		;
	subject_await_state(getpid(), tid, 'S');
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(second, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(take(first), SIGRTMIN + 100);
	CHECK_EQ(take(first), SIGRTMIN + 200);
	CHECK_EQ(take(first), -EAGAIN);
	CHECK_EQ(take(second), SIGUSR2);
	MUST(kill(getpid(), SIGUSR1));
	CHECK_EQ(take(second), -EAGAIN);
	CHECK_EQ(take(first), SIGUSR1);
	MUST(sigqueue(getpid(), SIGRTMAX, (union sigval){.sival_int = 7}));
	CHECK_EQ(take(first), -EAGAIN);
	CHECK_EQ(take(second), SIGRTMAX + 700);
	MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 42}));
	subject_join_thread(t);
	subject_pass();
}
