/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System call user dispatch of one thread, whose selector lets calls through while it is dumped. */
#include "subject.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif

static volatile char selector;
static volatile int dispatched;

static void on_dispatch(int signo, siginfo_t *info, void *context)
{
	selector = 0;
	dispatched = info->si_syscall;
}

static void call_dispatched(int nr)
{
	dispatched = 0;
	selector = 1;
	syscall(nr);
	CHECK_EQ(selector, 0);
	CHECK_EQ(dispatched, nr);
}

static void *thread(void *arg)
{
	struct sigaction sa = {.sa_sigaction = on_dispatch, .sa_flags = SA_SIGINFO};

	MUST(sigaction(SIGSYS, &sa, NULL));
	MUST(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector));
	call_dispatched(SYS_getppid);
	subject_wait();
	call_dispatched(SYS_getuid);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	t = subject_thread(thread, NULL);
	while (!dispatched)
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	subject_join_thread(t);
	subject_pass();
}
