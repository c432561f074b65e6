/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System call user dispatch of threads, whose selectors let calls through while they are dumped: calls from
 * everywhere, or (Linux 6.17) from one range only. */
#include "subject.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON 1
#endif
#define INCLUSIVE_ON 2

static __thread volatile char selector;
static __thread volatile int dispatched;
static volatile int ready;

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
	ready++;
	subject_wait();
	call_dispatched(SYS_getuid);
	return NULL;
}

/* Calls made in this page (syscall; ret) alone are dispatched. */
static long (*in_page)(void);

static long call_in_page(long nr)
{
	long ret;

	__asm__ volatile("call *%1" : "=a"(ret) : "r"(in_page), "a"(nr) : "rcx", "r11", "memory");
	return ret;
}

static void *inclusive(void *arg)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, INCLUSIVE_ON, in_page, 4096UL, &selector) < 0) {
		ready++;
		return NULL; /* before 6.17 */
	}
	ready++;
	subject_wait();
	selector = 1;
	CHECK_EQ(syscall(SYS_getpid), getpid());
	CHECK_EQ(selector, 1);
	call_in_page(SYS_getuid);
	CHECK_EQ(selector, 0);
	CHECK_EQ(dispatched, SYS_getuid);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t, t2;

	subject_init(argc, argv);
	in_page = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memcpy(in_page, "\x0f\x05\xc3", 3);
	MUST(mprotect(in_page, 4096, PROT_READ | PROT_EXEC));
	t = subject_thread(thread, NULL);
	t2 = subject_thread(inclusive, NULL);
	while (ready < 2)
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	subject_join_thread(t);
	subject_join_thread(t2);
	subject_pass();
}
