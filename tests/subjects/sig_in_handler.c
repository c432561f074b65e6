/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dumped inside a signal handler that runs on an alternative stack and interrupted a computation. */
#include "subject.h"

static char stack[65536];
static volatile int is_inside;

static void handler(int signo, siginfo_t *si, void *context)
{
	char pattern[4096];
	stack_t ss;

	subject_pattern(pattern, sizeof(pattern), 8);
	is_inside = 1;
	subject_ready();
	subject_wait();
	MUST(sigaltstack(NULL, &ss));
	CHECK_EQ(ss.ss_flags, SS_ONSTACK);
	CHECK_EQ((long)ss.ss_sp, (long)stack);
	CHECK(subject_is_pattern(pattern, sizeof(pattern), 8), "stack of the handler");
	is_inside = 2;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)}, after;
	sigset_t mask;

	subject_init(argc, argv);
	MUST(sigaltstack(&ss, NULL));
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	CHECK_EQ(is_inside, 2);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK_EQ(sigismember(&mask, SIGUSR1), 0);
	CHECK_EQ(sigismember(&mask, SIGUSR2), 0);
	MUST(sigaltstack(NULL, &after));
	CHECK_EQ(after.ss_flags, 0);
	subject_pass();
}
