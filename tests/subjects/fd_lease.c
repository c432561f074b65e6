/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Leases: for reading, for writing, and two that are being broken, for which other tasks wait. */
#include "subject.h"

static int reading, writing, given_up, lowered;
static sigset_t mask;

static int lease(const char *name, int flags, int type, int signo)
{
	int fd = MUST(open(subject_path(name), flags | O_CREAT, 0644));

	MUST(fcntl(fd, F_SETSIG, signo));
	if (fcntl(fd, F_SETLEASE, type) < 0)
		subject_skip("no leases here: %s", strerror(errno));
	return fd;
}

static int break_to_write(void *arg)
{
	subject_child_ready();
	close(MUST(open(subject_path("given_up"), O_WRONLY)));
	return 0;
}

static int break_to_read(void *arg)
{
	subject_child_ready();
	close(MUST(open(subject_path("lowered"), O_RDONLY)));
	return 0;
}

/* In a process of its own, because it closes what it has leased. */
static int fail_to_open(void *arg)
{
	subject_child_ready();
	CHECK(open(subject_path(arg), O_RDWR | O_NONBLOCK) < 0 && errno == EWOULDBLOCK, "%s", strerror(errno));
	return 0;
}

static void await_signal(int signo, int fd)
{
	struct timespec t = {10, 0};
	siginfo_t si;

	CHECK_EQ(sigtimedwait(&mask, &si, &t), signo);
	if (signo != SIGIO)
		CHECK_EQ(si.si_fd, fd);
}

static void set_up(void)
{
	sigemptyset(&mask);
	for (int i = 0; i < 3; i++)
		sigaddset(&mask, SIGRTMIN + i);
	sigaddset(&mask, SIGIO);
	MUST(sigprocmask(SIG_BLOCK, &mask, NULL));
	close(MUST(open(subject_path("reading"), O_WRONLY | O_CREAT, 0644)));
	reading = lease("reading", O_RDONLY, F_RDLCK, 0);
	writing = lease("writing", O_RDWR, F_WRLCK, SIGRTMIN);
	given_up = lease("given_up", O_RDWR, F_WRLCK, SIGRTMIN + 1);
	lowered = lease("lowered", O_RDONLY, F_WRLCK, SIGRTMIN + 2);
	MUST(write(writing, "content", 7));
}

static void check_nothing_pending(void)
{
	sigset_t pending;

	MUST(sigpending(&pending));
	CHECK(!sigismember(&pending, SIGIO), "SIGIO");
	for (int i = 0; i < 3; i++)
		CHECK(!sigismember(&pending, SIGRTMIN + i), "signal %d", SIGRTMIN + i);
}

static void check_leases(pid_t writer, pid_t reader)
{
	subject_await_state(writer, writer, 'S');
	subject_await_state(reader, reader, 'S');
	check_nothing_pending();
	CHECK_EQ(fcntl(reading, F_GETLEASE), F_RDLCK);
	CHECK_EQ(fcntl(writing, F_GETLEASE), F_WRLCK);
	CHECK_EQ(fcntl(given_up, F_GETLEASE), F_UNLCK);
	CHECK_EQ(fcntl(lowered, F_GETLEASE), F_RDLCK);
	CHECK_EQ(fcntl(writing, F_GETOWN), getpid());
	CHECK_EQ(fcntl(given_up, F_GETOWN), getpid());
}

/* Who comes is told to the holder, and waits. */
static void check_break(const char *name, int fd, int signo)
{
	subject_join(subject_fork(fail_to_open, (void *)name));
	await_signal(signo, fd);
	MUST(fcntl(fd, F_SETLEASE, F_UNLCK));
}

int main(int argc, char **argv)
{
	pid_t writer, reader;

	subject_init(argc, argv);
	set_up();
	writer = subject_fork(break_to_write, NULL);
	await_signal(SIGRTMIN + 1, given_up);
	reader = subject_fork(break_to_read, NULL);
	await_signal(SIGRTMIN + 2, lowered);
	check_leases(writer, reader);
	subject_ready();
	subject_wait();
	check_leases(writer, reader);
	check_break("reading", reading, SIGIO);
	check_break("writing", writing, SIGRTMIN);
	MUST(fcntl(given_up, F_SETLEASE, F_UNLCK));
	subject_join(writer);
	MUST(fcntl(lowered, F_SETLEASE, F_RDLCK));
	subject_join(reader);
	CHECK_EQ(fcntl(lowered, F_GETLEASE), F_RDLCK);
	check_nothing_pending();
	subject_pass();
}
