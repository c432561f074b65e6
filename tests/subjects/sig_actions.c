/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Actions with flags and masks, of all signals; the mask of each thread. */
#include "subject.h"

struct kernel_action { /* as rt_sigaction(2) of the kernel has it */
	unsigned long handler, flags, restorer, mask;
};
static struct kernel_action before[65], after[65];
static volatile sig_atomic_t got, code, value;

static void plain(int signo)
{
	got = signo;
}

static void with_info(int signo, siginfo_t *si, void *context)
{
	got = signo;
	code = si->si_code;
	value = si->si_value.sival_int;
}

static void read_actions(struct kernel_action *a)
{
	for (int signo = 1; signo <= 64; signo++)
		MUST(syscall(SYS_rt_sigaction, signo, NULL, &a[signo], 8));
}

static unsigned long thread_mask(void)
{
	unsigned long mask;

	MUST(syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, 8));
	return mask;
}

static void *thread(void *arg)
{
	unsigned long mask = 0x5555000000000000 | 1UL << (SIGWINCH - 1);

	MUST(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8));
	subject_wait();
	CHECK_EQ(thread_mask(), mask);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = with_info, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER | SA_ONSTACK};
	union sigval v = {.sival_int = 4711};
	unsigned long mask = 1UL << (SIGHUP - 1);
	pthread_t t;

	subject_init(argc, argv);
	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaddset(&sa.sa_mask, SIGRTMAX);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGRTMIN + 5, &sa, NULL);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, plain);
	sa.sa_flags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESETHAND | SA_SIGINFO;
	sigaction(SIGCHLD, &sa, NULL);
	MUST(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8));
	t = subject_thread(thread, NULL); /* the C library sets a handler for it */
	subject_sleep_ms(10);
	read_actions(before);
	subject_ready();
	subject_wait();
	read_actions(after);
	for (int signo = 1; signo <= 64; signo++)
		CHECK(memcmp(&before[signo], &after[signo], sizeof(before[0])) == 0, "signal %d", signo);
	CHECK_EQ(thread_mask(), mask);
	MUST(sigqueue(getpid(), SIGUSR1, v));
	while (!got)
		subject_sleep_ms(1);
	CHECK_EQ(got, SIGUSR1);
	CHECK_EQ(code, SI_QUEUE);
	CHECK_EQ(value, 4711);
	raise(SIGINT);
	CHECK_EQ(got, SIGINT);
	subject_join_thread(t);
	subject_pass();
}
