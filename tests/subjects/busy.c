/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A busy tree that looks after itself all the time: threads that compute with AVX, sleep, talk through a pipe and
 * get a timer's signals; children that compute and that wait. Whatever is done to it, it must notice nothing but
 * time going by: no EINTR, no stray child, descriptor or mapping, no result that differs.
 */
#include "subject.h"

#include <dirent.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;
static volatile bool stop;
static int ping[2], pong[2];

static void tick(int signo)
{
	ticks++;
}

static bool is_over(void)
{
	return stop || subject_is_go();
}

__attribute__((target("avx"), noinline)) static double sum_by_avx(double start)
{
	typedef double v4 __attribute__((vector_size(32)));
	v4 sum[6], x = {start, start + 1, start + 2, start + 3};
	double all = 0;

	for (int j = 0; j < 6; j++)
		sum[j] = x * (double)j;
	for (int i = 0; i < 20000; i++)
		for (int j = 0; j < 6; j++)
			sum[j] = sum[j] * 0.999999 + x;
	for (int j = 0; j < 6; j++)
		for (int k = 0; k < 4; k++)
			all += sum[j][k];
	return all;
}

static double sum_by_sse(double start)
{
	double sum = start;

	for (int i = 0; i < 100000; i++)
		sum = sum * 0.999999 + 1;
	return sum;
}

/* All but one thread rest now and then, and so do those that talk below: with more of them than
 * processors Linux 6.18 leaves other sessions, the test's own among them, without one for seconds. */
static void *computes(void *rests)
{
	double (*sum)(double) = __builtin_cpu_supports("avx") ? sum_by_avx : sum_by_sse;
	double expected = sum(3);

	while (!is_over()) {
		CHECK(sum(3) == expected, "the result of a computation has changed");
		if (rests)
			subject_sleep_ms(1);
	}
	return NULL;
}

static void *sleeps(void *arg)
{
	int64_t last = subject_now_ms(), now;

	while (!is_over()) {
		struct timespec ts = {0, 3000000};

		CHECK(nanosleep(&ts, NULL) == 0, "%s", strerror(errno));
		now = subject_now_ms();
		CHECK(now >= last + 3, "slept for %lld ms only", (long long)(now - last));
		last = now;
	}
	return NULL;
}

static void *throws(void *arg)
{
	int n = 0, back;

	while (!is_over()) {
		n++;
		CHECK(write(ping[1], &n, sizeof(n)) == sizeof(n), "%s", strerror(errno));
		CHECK(read(pong[0], &back, sizeof(back)) == sizeof(back), "%s", strerror(errno));
		CHECK_EQ(back, n);
		if (n % 16 == 0)
			subject_sleep_ms(1);
	}
	n = -1;
	MUST(write(ping[1], &n, sizeof(n)));
	return NULL;
}

static void *catches(void *arg)
{
	int n;

	for (;;) {
		CHECK(read(ping[0], &n, sizeof(n)) == sizeof(n), "%s", strerror(errno));
		if (n < 0)
			return NULL;
		MUST(write(pong[1], &n, sizeof(n)));
	}
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* The root's own thread: what a process can see of itself. */
static void watches(int fds)
{
	int last = ticks, status;
	int64_t seen = subject_now_ms();

	while (!subject_is_go()) {
		CHECK_EQ(waitpid(-1, &status, WNOHANG | __WALL), 0);
		CHECK_EQ(count_fds(), fds);
		if (ticks != last) {
			last = ticks;
			seen = subject_now_ms();
		}
		CHECK(subject_now_ms() < seen + 8000, "the timer has stopped");
		subject_sleep_ms(5);
	}
}

static int grandchild(void *arg)
{
	pid_t parent = getppid();

	subject_child_ready();
	subject_wait();
	CHECK_EQ(getppid(), parent);
	return 0;
}

static int child(void *arg)
{
	pthread_t t = subject_thread(computes, ping);
	pid_t pid = subject_fork(grandchild, NULL);

	subject_child_ready();
	sleeps(NULL);
	subject_join_thread(t);
	subject_join(pid);
	return 0;
}

int main(int argc, char **argv)
{
	static void *(*const work[])(void *) = {computes, sleeps, throws, catches, computes};
	struct itimerval every = {{0, 5000}, {0, 5000}};
	struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
	pthread_t t[5];
	pid_t pid[2];
	sigset_t set;

	subject_init(argc, argv);
	MUST(pipe(ping));
	MUST(pipe(pong));
	pid[0] = subject_fork(child, NULL);
	pid[1] = subject_fork(child, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 5; i++)
		t[i] = subject_thread(work[i], i ? ping : NULL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	sigaction(SIGALRM, &sa, NULL);
	MUST(setitimer(ITIMER_REAL, &every, NULL));
	subject_sleep_ms(20);
	subject_ready();
	watches(count_fds());
	stop = true;
	for (int i = 0; i < 5; i++)
		subject_join_thread(t[i]);
	subject_join(pid[0]);
	subject_join(pid[1]);
	subject_pass();
}
