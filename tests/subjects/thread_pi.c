/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mutexes with priority inheritance: held and waited for, by threads and by another task; the owner runs with the
 * priority of who waits (where that may be had); a robust one whose owner ends tells the next. */
#include "subject.h"

#include <linux/futex.h>

static struct {
	pthread_mutex_t plain, timed, robust;
} *m;
static int turns;

static void make(pthread_mutex_t *mutex, int robust)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, robust);
	CHECK_EQ(pthread_mutex_init(mutex, &a), 0);
}

static bool is_waited_for(pthread_mutex_t *mutex)
{
	return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_SEQ_CST) & FUTEX_WAITERS;
}

static void await_waiter(pthread_mutex_t *mutex)
{
	while (!is_waited_for(mutex))
		subject_sleep_ms(1);
}

static void *want_plain(void *arg)
{
	struct sched_param p = {.sched_priority = 10};

	if (arg)
		CHECK_EQ(pthread_setschedparam(pthread_self(), SCHED_FIFO, &p), 0);
	CHECK_EQ(pthread_mutex_lock(&m->plain), 0);
	turns++;
	CHECK_EQ(pthread_mutex_unlock(&m->plain), 0);
	return NULL;
}

static void *want_timed(void *arg)
{
	struct timespec t;

	MUST(clock_gettime(CLOCK_REALTIME, &t));
	t.tv_sec += 600;
	CHECK_EQ(pthread_mutex_timedlock(&m->timed, &t), 0);
	CHECK_EQ(pthread_mutex_unlock(&m->timed), 0);
	return NULL;
}

static void *want_robust(void *arg)
{
	CHECK_EQ(pthread_mutex_lock(&m->robust), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(&m->robust), 0);
	CHECK_EQ(pthread_mutex_unlock(&m->robust), 0);
	return NULL;
}

static int own_robust(void *arg)
{
	CHECK_EQ(pthread_mutex_lock(&m->robust), 0);
	subject_child_ready();
	subject_wait();
	return 0;
}

/* The kernel's priority of the first thread: below 0 in real time. */
static int priority(void)
{
	char line[1024];
	int n;

	subject_line("/proc/self/stat", "", line, sizeof(line));
	CHECK_EQ(sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %d", &n), 1);
	return n;
}

static bool may_real_time(void)
{
	struct sched_param p = {.sched_priority = 1}, none = {0};
	bool ret = sched_setscheduler(0, SCHED_FIFO, &p) == 0;

	if (ret)
		MUST(sched_setscheduler(0, SCHED_OTHER, &none));
	return ret;
}

static void check_waiters(bool is_boosted)
{
	await_waiter(&m->plain);
	for (int i = 0; is_boosted && priority() != -11; i++) {
		CHECK(i < 2000, "priority %d", priority());
		subject_sleep_ms(1);
	}
	CHECK_EQ(pthread_mutex_trylock(&m->plain), EBUSY);
	CHECK_EQ(turns, 0);
}

int main(int argc, char **argv)
{
	pthread_t plain, timed, robust;
	bool is_boosted;
	pid_t child;

	subject_init(argc, argv);
	m = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	make(&m->plain, PTHREAD_MUTEX_STALLED);
	make(&m->timed, PTHREAD_MUTEX_STALLED);
	make(&m->robust, PTHREAD_MUTEX_ROBUST);
	is_boosted = may_real_time();
	CHECK_EQ(pthread_mutex_lock(&m->plain), 0);
	CHECK_EQ(pthread_mutex_lock(&m->timed), 0);
	child = subject_fork(own_robust, NULL);
	plain = subject_thread(want_plain, is_boosted ? m : NULL);
	timed = subject_thread(want_timed, NULL);
	robust = subject_thread(want_robust, NULL);
	await_waiter(&m->timed);
	await_waiter(&m->robust);
	check_waiters(is_boosted);
	subject_ready();
	subject_wait();
	check_waiters(is_boosted);
	CHECK_EQ(pthread_mutex_unlock(&m->plain), 0);
	CHECK_EQ(pthread_mutex_unlock(&m->timed), 0);
	subject_join_thread(plain);
	CHECK_EQ(turns, 1);
	if (is_boosted)
		CHECK(priority() > 0, "priority %d", priority());
	subject_join_thread(timed);
	subject_join_thread(robust);
	subject_join(child);
	subject_pass();
}
