/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sleeps with a time limit, one thread each, interrupted by the dump: no EINTR, and what remains of the
 * time is kept. A sleep of LIMIT that is dumped after LEAD and started anew would last LEAD + LIMIT.
 */
#include "subject.h"

#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/select.h>

#define LIMIT 4000
#define LEAD  3000
#define LATE  (LIMIT + LEAD - 100) /* of undisturbed tests: LIMIT */

static int pipe_fd[2];
static const struct timespec limit = {LIMIT / 1000, LIMIT % 1000 * 1000000L};

static struct timespec deadline(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_sec += limit.tv_sec;
	ts.tv_nsec += limit.tv_nsec;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	return ts;
}

static int by_nanosleep(void)
{
	struct timespec ts = limit, rem;

	return nanosleep(&ts, &rem);
}

static int by_clock_nanosleep_remainder(void)
{
	struct timespec ts = limit;

	errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts);
	return errno ? -1 : 0;
}

#ifndef ONLY_KNOWN_ENDS
static int by_clock_nanosleep(void)
{
	errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &limit, NULL);
	return errno ? -1 : 0;
}

static int by_clock_nanosleep_boottime(void)
{
	errno = clock_nanosleep(CLOCK_BOOTTIME, 0, &limit, NULL);
	return errno ? -1 : 0;
}

static int by_poll(void)
{
	struct pollfd p = {pipe_fd[0], POLLIN, 0};

	return poll(&p, 1, LIMIT);
}

static int by_futex(void)
{
	static int word;

	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &limit, NULL, 0) < 0 && errno == ETIMEDOUT ? 0 : -1;
}
#endif

static int by_absolute_sleep(void)
{
	struct timespec ts = deadline(CLOCK_MONOTONIC);

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	return errno ? -1 : 0;
}

static int by_realtime_sleep(void)
{
	struct timespec ts = deadline(CLOCK_REALTIME);

	errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL);
	return errno ? -1 : 0;
}

static int by_ppoll(void)
{
	struct pollfd p = {pipe_fd[0], POLLIN, 0};
	struct timespec ts = limit;

	return ppoll(&p, 1, &ts, NULL);
}

static int by_select(void)
{
	struct timeval tv = {LIMIT / 1000, LIMIT % 1000 * 1000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pipe_fd[0], &set);
	return select(pipe_fd[0] + 1, &set, NULL, NULL, &tv);
}

static int by_pselect(void)
{
	struct timespec ts = limit;

	return pselect(0, NULL, NULL, NULL, &ts, NULL);
}

static int by_futex_bitset(void)
{
	struct timespec ts = deadline(CLOCK_MONOTONIC);
	static int word;

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &ts, NULL, ~0) < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static int by_semaphore(void)
{
	struct timespec ts = deadline(CLOCK_REALTIME);
	sem_t sem;

	sem_init(&sem, 0, 0);
	return sem_timedwait(&sem, &ts) < 0 && errno == ETIMEDOUT ? 0 : -1;
}

static const struct way {
	const char *name;
	int (*sleep)(void);
} ways[] = {
	{"nanosleep", by_nanosleep},
	{"clock_nanosleep, remainder", by_clock_nanosleep_remainder},
#ifndef ONLY_KNOWN_ENDS
	{"clock_nanosleep", by_clock_nanosleep},
	{"clock_nanosleep, boottime", by_clock_nanosleep_boottime},
	{"poll", by_poll},
	{"futex", by_futex},
#endif
	{"clock_nanosleep, absolute", by_absolute_sleep},
	{"clock_nanosleep, absolute realtime", by_realtime_sleep},
	{"ppoll", by_ppoll},
	{"select", by_select},
	{"pselect", by_pselect},
	{"futex bitset", by_futex_bitset},
	{"sem_timedwait", by_semaphore},
};
#define N (sizeof(ways) / sizeof(ways[0]))

static void *sleeps(void *arg)
{
	const struct way *w = arg;
	int64_t start = subject_now_ms(), took;

	errno = 0;
	CHECK(w->sleep() == 0, "%s: %s", w->name, strerror(errno));
	took = subject_now_ms() - start;
	CHECK(took >= LIMIT - 2, "%s ended after %lld ms", w->name, (long long)took);
	CHECK(took < LATE, "%s ended only after %lld ms", w->name, (long long)took);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[N];
	size_t i;

	subject_init(argc, argv);
	MUST(pipe(pipe_fd));
	for (i = 0; i < N; i++)
		t[i] = subject_thread(sleeps, (void *)&ways[i]);
	subject_sleep_ms(LEAD);
	subject_ready();
	for (i = 0; i < N; i++)
		subject_join_thread(t[i]);
	subject_wait();
	subject_pass();
}
