/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mq_notify: signals with their values, through descriptors to read, to write, and inherited; no signal at all. */
#include "subject.h"

#include <linux/mqueue.h>

#define VALUE 0x123456789abcdef0

static int reader, writer, silent, inherited;

static int queue_open(const char *prefix, int flags)
{
	struct mq_attr attr = {.mq_maxmsg = 2, .mq_msgsize = 8};
	char name[64];

	snprintf(name, sizeof(name), "cpx-%s-%d", prefix, getpid());
	return MUST(syscall(SYS_mq_open, name, flags, 0600, flags & O_CREAT ? &attr : NULL));
}

static void ask(int fd, int kind, int signo, uint64_t value)
{
	struct sigevent e = {.sigev_notify = kind, .sigev_signo = signo, .sigev_value.sival_ptr = (void *)value};

	MUST(syscall(SYS_mq_notify, fd, &e));
}

static void check_asked(int fd)
{
	struct sigevent e = {.sigev_notify = SIGEV_NONE};

	CHECK(syscall(SYS_mq_notify, fd, &e) < 0 && errno == EBUSY, "nobody is told of %d", fd);
}

static void send(int fd)
{
	MUST(syscall(SYS_mq_timedsend, fd, "message", 7, 0, NULL));
}

static void expect(int signo, uint64_t value)
{
	struct timespec t = {10, 0};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	CHECK_EQ(sigtimedwait(&set, &si, &t), signo);
	CHECK_EQ(si.si_code, SI_MESGQ);
	CHECK_EQ((uint64_t)si.si_value.sival_ptr, value);
}

static void check_none_pending(void)
{
	sigset_t pending;

	MUST(sigpending(&pending));
	CHECK(sigisemptyset(&pending), "a signal is pending");
}

static int child(void *arg)
{
	ask(inherited, SIGEV_SIGNAL, SIGUSR1, 7);
	subject_child_ready();
	expect(SIGUSR1, 7);
	return 0;
}

int main(int argc, char **argv)
{
	sigset_t all;
	pid_t pid;

	subject_init(argc, argv);
	sigfillset(&all);
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	writer = queue_open("told", O_WRONLY | O_CREAT | O_EXCL);
	reader = queue_open("told", O_RDONLY);
	silent = queue_open("silent", O_RDWR | O_CREAT | O_EXCL);
	inherited = queue_open("child", O_WRONLY | O_CREAT | O_EXCL);
	for (int i = 0; i < 3; i++) {
		char name[64];

		snprintf(name, sizeof(name), "cpx-%s-%d", (const char *[]){"told", "silent", "child"}[i], getpid());
		MUST(syscall(SYS_mq_unlink, name));
	}
	ask(reader, SIGEV_SIGNAL, SIGRTMIN + 4, VALUE);
	ask(silent, SIGEV_NONE, 0, 0);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	check_none_pending();
	check_asked(writer);
	check_asked(silent);
	check_asked(inherited);
	send(writer);
	expect(SIGRTMIN + 4, VALUE);
	send(silent);
	check_none_pending();
	send(inherited);
	subject_join(pid);
	ask(silent, SIGEV_NONE, 0, 0); /* it is over */
	subject_pass();
}
