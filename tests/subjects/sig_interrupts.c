/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SA_RESTART and its absence still mean what they meant, for a read that the dump found sleeping. */
#include "subject.h"

static int fds[2];
static pid_t tid[2];
static volatile sig_atomic_t handled;

static void handler(int signo)
{
	handled++;
}

static void *restarts(void *arg)
{
	char c;

	tid[0] = syscall(SYS_gettid);
	CHECK_EQ(read(fds[0], &c, 1), 1);
	CHECK_EQ(handled, 2);
	return NULL;
}

static void *does_not(void *arg)
{
	char c;

	tid[1] = syscall(SYS_gettid);
	CHECK_EQ(read(fds[0], &c, 1), -1);
	CHECK_EQ(errno, EINTR);
	return NULL;
}

static void send(int i, int signo)
{
	int before = handled;

	MUST(syscall(SYS_tgkill, getpid(), tid[i], signo));
	while (handled == before)
		subject_sleep_ms(1);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = handler};
	pthread_t a, b;

	subject_init(argc, argv);
	sigaction(SIGUSR2, &sa, NULL);
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	MUST(pipe(fds));
	a = subject_thread(restarts, NULL);
	b = subject_thread(does_not, NULL);
	subject_sleep_ms(20);
	subject_ready();
	subject_wait();
	CHECK_EQ(handled, 0);
	send(1, SIGUSR2);
	subject_join_thread(b);
	send(0, SIGUSR1);
	MUST(write(fds[1], "x", 1));
	subject_join_thread(a);
	subject_pass();
}
