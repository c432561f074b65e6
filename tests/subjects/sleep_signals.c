/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that wait for a signal: pause, sigsuspend (with its own mask), sigwaitinfo, rt_sigtimedwait with a time left,
 * ppoll with a mask. The signal comes after the restore. */
#include "subject.h"

#include <poll.h>

static __thread volatile sig_atomic_t got;
static pid_t tid[5];

static void handler(int signo)
{
	got = signo;
}

static sigset_t only(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	return set;
}

static sigset_t all_but(int signo)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, signo);
	return set;
}

static void check_mask(void)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	CHECK_EQ(sigismember(&mask, SIGUSR1), 1);
	CHECK_EQ(sigismember(&mask, SIGUSR2), 1);
	CHECK_EQ(sigismember(&mask, SIGTERM), 0);
}

static void *in_pause(void *arg)
{
	CHECK_EQ(pause(), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(got, SIGTERM);
	return NULL;
}

static void *in_sigsuspend(void *arg)
{
	sigset_t mask = all_but(SIGUSR1);

	CHECK_EQ(sigsuspend(&mask), -1);
	CHECK_EQ(got, SIGUSR1);
	return NULL;
}

static void *in_sigwaitinfo(void *arg)
{
	sigset_t set = only(SIGUSR2);
	siginfo_t si;
	int signo;

	do /* signal(7): a stop may give EINTR here */
		signo = sigwaitinfo(&set, &si);
	while (signo < 0 && errno == EINTR && !subject_is_go());
	CHECK_EQ(signo, SIGUSR2);
	CHECK_EQ(si.si_pid, getpid());
	return NULL;
}

static void *in_sigtimedwait(void *arg)
{
	struct timespec limit = {60, 0};
	sigset_t set = only(SIGUSR2);
	int signo;

	do
		signo = sigtimedwait(&set, NULL, &limit);
	while (signo < 0 && errno == EINTR && !subject_is_go());
	CHECK_EQ(signo, SIGUSR2);
	return NULL;
}

static void *in_ppoll(void *arg)
{
	sigset_t mask = all_but(SIGUSR1);

	CHECK_EQ(ppoll(NULL, 0, NULL, &mask), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(got, SIGUSR1);
	return NULL;
}

static void *(*const ways[5])(void *) = {in_pause, in_sigsuspend, in_sigwaitinfo, in_sigtimedwait, in_ppoll};
static const int wakes[5] = {SIGTERM, SIGUSR1, SIGUSR2, SIGUSR2, SIGUSR1};

static void *waits(void *arg)
{
	long i = (long)arg;

	tid[i] = syscall(SYS_gettid);
	ways[i](NULL);
	CHECK(subject_is_go(), "way %ld ended too early", i);
	check_mask();
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = handler};
	sigset_t set = only(SIGUSR1);
	pthread_t t[5];
	long i;

	subject_init(argc, argv);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	for (i = 0; i < 5; i++)
		t[i] = subject_thread(waits, (void *)i);
	subject_sleep_ms(30);
	subject_ready();
	subject_wait();
	for (i = 0; i < 5; i++) {
		MUST(syscall(SYS_tgkill, getpid(), tid[i], wakes[i]));
		subject_join_thread(t[i]);
	}
	check_mask();
	subject_pass();
}
