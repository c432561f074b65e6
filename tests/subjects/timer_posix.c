/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* POSIX timers: their numbers, clocks, ways of telling, intervals, what remains, overrun. */
#include "subject.h"

static timer_t id[6];
static pid_t tid;

static timer_t make(clockid_t clock, int notify, int signo, int value)
{
	struct sigevent ev = {.sigev_notify = notify, .sigev_signo = signo, .sigev_value.sival_int = value};
	timer_t t;

	if (notify == SIGEV_THREAD_ID)
		ev._sigev_un._tid = tid;
	MUST(timer_create(clock, &ev, &t));
	return t;
}

static void arm(timer_t t, long first_ms, long interval_ms)
{
	struct itimerspec s = {{interval_ms / 1000, interval_ms % 1000 * 1000000},
			       {first_ms / 1000, first_ms % 1000 * 1000000}};

	MUST(timer_settime(t, 0, &s, NULL));
}

static void check_left(timer_t t, long min_ms, long max_ms, long interval_ms)
{
	struct itimerspec s;
	long left;

	MUST(timer_gettime(t, &s));
	left = s.it_value.tv_sec * 1000 + s.it_value.tv_nsec / 1000000;
	CHECK(left >= min_ms && left <= max_ms, "%ld ms left, not %ld to %ld", left, min_ms, max_ms);
	CHECK_EQ(s.it_interval.tv_sec * 1000 + s.it_interval.tv_nsec / 1000000, interval_ms);
}

static void expect_signal(int signo, int value, int min_overrun)
{
	struct timespec limit = {5, 0};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	CHECK_EQ(sigtimedwait(&set, &si, &limit), signo);
	CHECK_EQ(si.si_code, SI_TIMER);
	CHECK_EQ(si.si_value.sival_int, value);
	CHECK(si.si_overrun >= min_overrun, "overrun %d", si.si_overrun);
}

/* Expired four times at once, of which the signal that is taken here tells. */
static void overrun(timer_t t)
{
	struct itimerspec s = {{20, 0}, {0, 0}};

	MUST(clock_gettime(CLOCK_BOOTTIME, &s.it_value));
	if (s.it_value.tv_sec < 80)
		subject_skip("the machine has only just been started");
	s.it_value.tv_sec -= 70;
	MUST(timer_settime(t, TIMER_ABSTIME, &s, NULL));
	expect_signal(SIGRTMIN + 5, 55, 3);
	CHECK_EQ(timer_getoverrun(t), 3);
}

static void *thread(void *arg)
{
	tid = syscall(SYS_gettid);
	subject_wait();
	expect_signal(SIGRTMIN + 4, 44, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t set;
	pthread_t t;

	subject_init(argc, argv);
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	t = subject_thread(thread, NULL);
	while (!tid)
		subject_sleep_ms(1);
	timer_delete(make(CLOCK_REALTIME, SIGEV_NONE, 0, 0)); /* a hole in the numbers */
	id[0] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 11);
	id[1] = make(CLOCK_REALTIME, SIGEV_NONE, 0, 0);
	id[2] = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN + 2, 22);
	id[3] = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 3, 33);
	id[4] = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 4, 44);
	id[5] = make(CLOCK_BOOTTIME, SIGEV_SIGNAL, SIGRTMIN + 5, 55);
	arm(id[0], 10, 10);	      /* overruns pile up: the signal is blocked */
	overrun(id[5]);
	arm(id[1], 500000, 1250);
	arm(id[3], 100000, 0);
	arm(id[4], 400000, 0);
	subject_sleep_ms(200);
	subject_ready();
	subject_wait();
	expect_signal(SIGRTMIN + 1, 11, 0); /* was pending */
	subject_sleep_ms(100);
	expect_signal(SIGRTMIN + 1, 11, 7); /* and goes on overrunning */
	CHECK_EQ(timer_getoverrun(id[5]), 3);
	check_left(id[5], 1000, 10000, 20000);
	check_left(id[1], 480000, 499800, 1250);
	check_left(id[2], 0, 0, 0);
	check_left(id[3], 97000, 100000, 0);
	check_left(id[4], 380000, 399800, 0);
	arm(id[2], 1, 0);
	expect_signal(SIGRTMIN + 2, 22, 0);
	arm(id[4], 1, 0);
	subject_join_thread(t);
	for (int i = 0; i < 6; i++)
		MUST(timer_delete(id[i]));
	subject_pass();
}
