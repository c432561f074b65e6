/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A busy application that checks itself: vector and callee-saved registers, interrupted sleeps,
 * threads, an alternate stack, blocked and pending signals, children. Runs until SIGTERM and exits
 * 0 if all has been well; says on stderr what was not. Prints "ready" when it has begun.
 */
#include <errno.h>
#include <immintrin.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_bool is_ending, is_bad;
static bool is_tolerant; /* of EINTR where any stop gives one: a freeze that was killed in its first
			    instants */
static atomic_ulong rounds;
static atomic_int *begun; /* workers that did a round; shared with the child */

static void bad(const char *what)
{
	if (errno == EINTR && atomic_load(&is_ending))
		return;
	fprintf(stderr, "target: %s (errno %d)\n", what, errno);
	atomic_store(&is_bad, true);
}

static void on_term(int sig)
{
	atomic_store(&is_ending, true);
}

static void on_child(int sig)
{
	bad("SIGCHLD");
}

__attribute__((target("avx"))) static void check_avx(void)
{
	__m256 a = _mm256_set1_ps(1.0f), half = _mm256_set1_ps(0.5f);
	float f[8];

	for (int i = 0; i < 100000; i++)
		a = _mm256_add_ps(_mm256_mul_ps(a, half), half);
	_mm256_storeu_ps(f, a);
	for (int i = 0; i < 8; i++)
		if (f[i] != 1.0f)
			bad("AVX register changed");
}

__attribute__((target("avx512f"))) static void check_avx512(void)
{
	__m512i a = _mm512_set1_epi64(7), one = _mm512_set1_epi64(1);
	__mmask8 k = 0x5a;
	int64_t v[8];

	for (int i = 0; i < 100000; i++) {
		a = _mm512_mask_add_epi64(a, k, a, one);
		__asm__ volatile("" : "+v"(a), "+Yk"(k));
	}
	_mm512_storeu_si512(v, a);
	for (int i = 0; i < 8; i++)
		if (v[i] != (0x5a >> i & 1 ? 100007 : 7))
			bad("AVX-512 register changed");
}

static void check_callee_saved(uint64_t seed)
{
	uint64_t a = seed, b = ~seed, c = seed * 3, d = seed * 5;

	for (int i = 0; i < 100000; i++) {
		a += 3, b -= 3, c ^= 0x55, d += 1;
		__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
	}
	if (a != seed + 300000 || b != ~seed - 300000 || c != seed * 3 || d != seed * 5 + 100000)
		bad("general register changed");
}

static void sleep_exactly(void)
{
	struct timespec t = {.tv_nsec = 300000}, rest, before, after;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &before);
	errno = 0;
	if (nanosleep(&t, &rest)) {
		bad("nanosleep interrupted");
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	ns = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
	if (ns < 300000)
		bad("nanosleep too short");
}

static void wait_quietly(void)
{
	static _Thread_local int ep = -1;
	struct epoll_event ev;

	if (ep < 0)
		ep = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_wait(ep, &ev, 1, 1) < 0 && !(is_tolerant && errno == EINTR))
		bad("epoll_wait");
	if (poll(NULL, 0, 1) < 0)
		bad("poll");
}

static void *work(void *arg)
{
	bool is_first = true;
	uint64_t seed = (uintptr_t)arg * 7919;
	stack_t ss = {.ss_sp = malloc(16384), .ss_size = 16384}, old;

	sigaltstack(&ss, NULL);
	while (!atomic_load(&is_ending)) {
		if (__builtin_cpu_supports("avx"))
			check_avx();
		if (__builtin_cpu_supports("avx512f"))
			check_avx512();
		check_callee_saved(seed++);
		sleep_exactly();
		wait_quietly();
		sigaltstack(NULL, &old);
		if (old.ss_sp != ss.ss_sp || old.ss_flags)
			bad("alternate stack changed");
		atomic_fetch_add(&rounds, 1);
		if (is_first)
			atomic_fetch_add(begun, 1);
		is_first = false;
	}
	return NULL;
}

static void *wait_in_futex(void *arg)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	atomic_fetch_add(begun, 1);
	while (!atomic_load(&is_ending))
		if (sigwait(&set, &sig))
			bad("sigwait");
	return NULL;
}

static void set_up_signals(void)
{
	sigset_t set;

	signal(SIGTERM, on_term);
	signal(SIGCHLD, on_child);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGUSR1);
	sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 1});
	sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 2});
}

static void check_pending(void)
{
	struct timespec zero = {0};
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	for (int i = 1; i <= 2; i++)
		if (sigtimedwait(&set, &info, &zero) != SIGRTMIN + 3 ||
		    info.si_value.sival_int != i)
			bad("pending signals changed");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (sigtimedwait(&set, &info, &zero) != SIGUSR1)
		bad("pending SIGUSR1 lost");
}

/* A child that works too, and a zombie that stays. */
static pid_t make_children(pid_t *ret_zombie)
{
	pid_t child = fork();

	if (!child) {
		work((void *)99);
		_exit(atomic_load(&is_bad));
	}
	signal(SIGCHLD, SIG_DFL);
	*ret_zombie = fork();
	if (!*ret_zombie)
		_exit(3);
	siginfo_t info;

	waitid(P_PID, *ret_zombie, &info, WEXITED | WNOWAIT);
	signal(SIGCHLD, on_child);
	return child;
}

static void end_children(pid_t child, pid_t zombie)
{
	int status;

	signal(SIGCHLD, SIG_DFL);
	if (waitpid(zombie, &status, 0) != zombie || status != 3 << 8)
		bad("zombie changed");
	kill(child, SIGTERM);
	if (waitpid(child, &status, 0) != child || status)
		bad("child was not well");
	if (waitpid(-1, &status, __WALL) != -1)
		bad("an unknown child");
}

int main(int argc, char **argv)
{
	int nthreads = argc > 1 ? atoi(argv[1]) : 4;
	pthread_t thread[512], waiter;
	pid_t child, zombie;

	is_tolerant = argc > 2;
	if (nthreads < 1 || nthreads > 512)
		return 2;
	begun = mmap(NULL, sizeof(*begun), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	set_up_signals();
	child = make_children(&zombie);
	pthread_create(&waiter, NULL, wait_in_futex, NULL);
	for (int i = 0; i < nthreads; i++)
		pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(i + 1));
	while (atomic_load(begun) < nthreads + 2) /* those, the child, the one that waits */
		usleep(1000);
	puts("ready");
	fflush(stdout);
	while (!atomic_load(&is_ending))
		sleep_exactly();
	for (int i = 0; i < nthreads; i++)
		pthread_join(thread[i], NULL);
	pthread_kill(waiter, SIGUSR2);
	pthread_join(waiter, NULL);
	check_pending();
	end_children(child, zombie);
	fprintf(stderr, "target: %lu rounds\n", atomic_load(&rounds));
	return atomic_load(&is_bad);
}
