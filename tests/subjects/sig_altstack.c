/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Alternative signal stacks of two threads, unused. */
#include "subject.h"

static char stack[2][65536];
static __thread unsigned long used;

static void handler(int signo)
{
	char local;

	used = (unsigned long)&local;
}

static void set(int i)
{
	stack_t ss = {.ss_sp = stack[i], .ss_size = 32768 + 4096 * i};

	MUST(sigaltstack(&ss, NULL));
}

static void check(int i)
{
	stack_t ss;

	MUST(sigaltstack(NULL, &ss));
	CHECK_EQ((long)ss.ss_sp, (long)stack[i]);
	CHECK_EQ(ss.ss_size, 32768 + 4096 * i);
	CHECK_EQ(ss.ss_flags, 0);
	raise(SIGUSR1);
	CHECK(used - (unsigned long)stack[i] < ss.ss_size, "handler ran at %lx", used);
}

static void *thread(void *arg)
{
	set(1);
	subject_wait();
	check(1);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	pthread_t t;

	subject_init(argc, argv);
	sigaction(SIGUSR1, &sa, NULL);
	set(0);
	t = subject_thread(thread, NULL);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	check(0);
	subject_join_thread(t);
	subject_pass();
}
