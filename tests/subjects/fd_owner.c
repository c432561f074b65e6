/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who gets SIGIO of a descriptor: owner and signal, kept and acting. */
#include "subject.h"

static volatile sig_atomic_t got;

static void handler(int signo, siginfo_t *si, void *context)
{
	got = signo;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	int fds[2];

	subject_init(argc, argv);
	sigaction(SIGRTMIN + 2, &sa, NULL);
	MUST(pipe(fds));
	MUST(fcntl(fds[0], F_SETOWN, getpid()));
	MUST(fcntl(fds[0], F_SETSIG, SIGRTMIN + 2));
	MUST(fcntl(fds[0], F_SETFL, O_ASYNC));
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(fds[0], F_GETOWN), getpid());
	CHECK_EQ(fcntl(fds[0], F_GETSIG), SIGRTMIN + 2);
	CHECK_EQ(fcntl(fds[0], F_GETFL) & O_ASYNC, O_ASYNC);
	CHECK_EQ(got, 0);
	MUST(write(fds[1], "x", 1));
	for (int i = 0; i < 1000 && !got; i++)
		subject_sleep_ms(1);
	CHECK_EQ(got, SIGRTMIN + 2);
	subject_pass();
}
