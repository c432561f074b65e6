/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/timers.c: interval timers, POSIX timers with their ids, signals and overrun counts. */
#include "attr_case.h"

#include <sys/time.h>
#include <time.h>

#define MS 1000000ULL

static struct itimerval us(uint64_t value, uint64_t interval)
{
	return (struct itimerval){.it_value = {value / 1000000, value % 1000000},
				  .it_interval = {interval / 1000000, interval % 1000000}};
}

static void arm(int id, uint64_t value_ns, uint64_t interval_ns)
{
	struct itimerspec it = {
		.it_value = {value_ns / 1000000000, value_ns % 1000000000},
		.it_interval = {interval_ns / 1000000000, interval_ns % 1000000000}};

	if (syscall(SYS_timer_settime, id, 0, &it, NULL) < 0)
		_exit(91);
}

static int make(clockid_t clock, int notify, int signo, uint64_t value)
{
	struct sigevent ev = {.sigev_notify = notify,
			      .sigev_signo = signo,
			      .sigev_value.sival_ptr = (void *)value};
	int id;

	ev._sigev_un._tid = gettid();
	if (syscall(SYS_timer_create, clock, &ev, &id) < 0)
		_exit(92);
	return id;
}

/* Restores `setup` into a plain subject and hands both records over. */
static void trip(void (*setup)(struct subject *), struct dumped *before, struct dumped *after,
		 struct restored *r, struct subject *to)
{
	struct subject from = subject_start(setup);

	*to = subject_start(NULL);
	dump(&from, before);
	assert_int_equal(before->refusals.n, 0);
	subject_end(&from);
	restore(to, r, before->task);
	dump(to, after);
}

static void trip_end(struct dumped *before, struct dumped *after, struct restored *r,
		     struct subject *to)
{
	subject_end(to);
	dumped_release(before);
	dumped_release(after);
	restored_release(r);
}

static void set_itimers(struct subject *s)
{
	struct itimerval it = us(3600000000, 1234567);

	setitimer(ITIMER_REAL, &it, NULL);
	it = us(500000000, 0);
	setitimer(ITIMER_VIRTUAL, &it, NULL);
	it = us(700000000, 7);
	setitimer(ITIMER_PROF, &it, NULL);
}

static void assert_near(uint64_t a, uint64_t b, uint64_t tolerance)
{
	if ((a > b ? a - b : b - a) > tolerance)
		fail_msg("%llu is not near %llu", (unsigned long long)a, (unsigned long long)b);
}

static void test_itimers(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	trip(set_itimers, &before, &after, &r, &to);
	assert_int_equal(before.task->n_itimer, 3);
	assert_int_equal(after.task->n_itimer, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(after.task->itimer[i]->interval_us,
				 before.task->itimer[i]->interval_us);
		assert_near(after.task->itimer[i]->value_us, before.task->itimer[i]->value_us,
			    1000000);
	}
	trip_end(&before, &after, &r, &to);
}

static void expire_itimer(struct subject *s)
{
	struct itimerval it = us(1, 50000000);
	sigset_t pending;

	setitimer(ITIMER_REAL, &it, NULL);
	do
		sigpending(&pending);
	while (!sigismember(&pending, SIGALRM));
}

/* Fired, not yet delivered: the kernel goes on with it at delivery. */
static void test_expired_itimer(void **state)
{
	struct timespec zero = {0};
	uint64_t mask = 1ULL << (SIGALRM - 1);
	struct dumped before, after, later;
	struct restored r;
	struct subject to;
	struct batch b;

	trip(expire_itimer, &before, &after, &r, &to);
	assert_int_equal(after.task->signals->n_pending, 1);
	b = subject_batch(&to, 0);
	BATCH_CALL(&b, SYS_rt_sigtimedwait, batch_in(&b, &mask, 8), 0,
		   batch_in(&b, &zero, sizeof(zero)), 8);
	subject_run(&to, 0, &b);
	assert_int_equal(batch_ret(&b, 0), SIGALRM);
	dump(&to, &later);
	assert_int_equal(later.task->n_itimer, 1);
	assert_int_equal(later.task->itimer[0]->interval_us, 50000000);
	assert_near(later.task->itimer[0]->value_us, 50000000, 2000000);
	dumped_release(&later);
	trip_end(&before, &after, &r, &to);
}

static void set_timers(struct subject *s)
{
	int dropped[5];

	arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 0x123456789abc), 3000000 * MS,
	    17 * MS);
	for (int i = 0; i < 5; i++)
		dropped[i] = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGALRM, 0);
	arm(make(CLOCK_BOOTTIME, SIGEV_NONE, 0, 0), 5000000 * MS, 0);
	for (int i = 0; i < 5; i++)
		syscall(SYS_timer_delete, dropped[i]);
	make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 9);
	arm(make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR2, 10), 1000 * MS, 2000 * MS);
	arm(make(CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD_ID, SIGUSR2, 11), 1000 * MS, 0);
	arm(make(CLOCK_TAI, SIGEV_THREAD_ID, SIGRTMIN, 12), 9000000 * MS, 0);
}

static void assert_same_timers(const Cpx__Task *a, const Cpx__Task *b)
{
	assert_int_equal(a->n_posix_timer, b->n_posix_timer);
	for (size_t i = 0; i < a->n_posix_timer; i++) {
		const Cpx__PosixTimer *x = a->posix_timer[i], *y = b->posix_timer[i];

		assert_int_equal(x->id, y->id);
		assert_int_equal(x->clock, y->clock);
		assert_int_equal(x->notify, y->notify);
		assert_int_equal(x->signo, y->signo);
		assert_int_equal(x->sigval, y->sigval);
		assert_int_equal(x->interval_ns, y->interval_ns);
		assert_int_equal(x->overrun, y->overrun);
		assert_int_equal(!x->value_ns, !y->value_ns);
		assert_near(x->value_ns, y->value_ns, 1000 * MS);
	}
}

static void test_posix_timers(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	trip(set_timers, &before, &after, &r, &to);
	assert_int_equal(before.task->n_posix_timer, 6);
	assert_same_timers(before.task, after.task);
	trip_end(&before, &after, &r, &to);
}

static void take_signal(int sig, siginfo_t *si)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	if (sigwaitinfo(&set, si) != sig)
		_exit(93);
}

/* The last signal taken stood for several expirations; the next is not due yet. */
static void overrun(struct subject *s)
{
	int id = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 2, 1);
	struct itimerspec it = {.it_interval = {3600, 0}};
	siginfo_t si;

	clock_gettime(CLOCK_MONOTONIC, &it.it_value);
	it.it_interval.tv_sec = it.it_value.tv_sec / 20;
	it.it_value.tv_sec -= 7 * it.it_interval.tv_sec + it.it_interval.tv_sec / 2;
	if (syscall(SYS_timer_settime, id, TIMER_ABSTIME, &it, NULL) < 0)
		_exit(94);
	take_signal(SIGRTMIN + 2, &si);
	if (si.si_overrun != 7)
		_exit(95);
}

static void test_overrun(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	trip(overrun, &before, &after, &r, &to);
	assert_int_equal(before.task->posix_timer[0]->overrun, 7);
	assert_same_timers(before.task, after.task);
	assert_int_equal(after.task->signals->n_pending, 0);
	trip_end(&before, &after, &r, &to);
}

static void wait_pending(int sig)
{
	sigset_t pending;

	do
		sigpending(&pending);
	while (!sigismember(&pending, sig));
}

static void expire_periodic(struct subject *s)
{
	union sigval v = {.sival_int = 5};

	sigqueue(getpid(), SIGRTMIN + 4, v);
	arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 4, 77), 1, 10 * MS);
	arm(make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 5, 78), 1, 10 * MS);
	arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 6, 79), 1, 0);
	wait_pending(SIGRTMIN + 4);
	wait_pending(SIGRTMIN + 5);
	wait_pending(SIGRTMIN + 6);
}

/* Pending timer signals are there once each, belong to their timers again and gather overruns. */
static void test_pending(void **state)
{
	struct timespec pause = {.tv_nsec = 55 * MS};
	struct dumped before, after;
	struct restored r;
	struct subject to;
	struct batch b;
	uint64_t mask = ~0ULL, info[4];

	trip(expire_periodic, &before, &after, &r, &to);
	assert_int_equal(before.task->signals->n_pending, 3);
	nanosleep(&pause, NULL);
	b = subject_batch(&to, 0);
	for (int i = 0; i < 4; i++) {
		info[i] = batch_out(&b, sizeof(siginfo_t));
		BATCH_CALL(&b, SYS_rt_sigtimedwait, batch_in(&b, &mask, 8), info[i],
			   batch_in(&b, &(struct timespec){0}, sizeof(struct timespec)), 8);
	}
	subject_run(&to, 0, &b);
	for (int i = 0, plain = 0, periodic = 0, once = 0; i < 4; i++) {
		const siginfo_t *si = batch_local(&b, info[i]);

		assert_true(batch_ret(&b, i) > 0);
		plain += si->si_code == SI_QUEUE && si->si_value.sival_int == 5;
		periodic += si->si_code == SI_TIMER && si->si_value.sival_int < 79 &&
			    si->si_overrun >= 4;
		once += si->si_code == SI_TIMER && si->si_value.sival_int == 79;
		if (i == 3) {
			assert_int_equal(plain, 1);
			assert_int_equal(periodic, 2);
			assert_int_equal(once, 1);
		}
	}
	trip_end(&before, &after, &r, &to);
}

static void expire_soon(struct subject *s)
{
	struct itimerval it = us(20000, 0);

	setitimer(ITIMER_REAL, &it, NULL);
	arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 4, 77), 20 * MS, 3600000 * MS);
	arm(make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 5, 78), 20 * MS, 0);
	arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 6, 79), 3600000 * MS, 0);
}

/* What expires while the tree is frozen, after the queues were read, is not lost. */
static void test_expiry_in_freeze(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	freeze_ms = 60;
	trip(expire_soon, &before, &after, &r, &to);
	freeze_ms = 0;
	assert_int_equal(before.task->signals->n_pending, 2);
	assert_int_equal(after.task->signals->n_pending, 2);
	assert_int_equal(before.task->thread[0]->signals->n_pending, 1);
	assert_int_equal(after.task->thread[0]->signals->n_pending, 1);
	assert_int_equal(before.task->n_itimer, 0);
	assert_same_timers(before.task, after.task);
	trip_end(&before, &after, &r, &to);
}

static void high_id(struct subject *s)
{
	for (int i = 0; i < 1500; i++)
		syscall(SYS_timer_delete, make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0));
	make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
}

static void test_high_id(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	if (prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0) < 0)
		skip();
	trip(high_id, &before, &after, &r, &to);
	assert_int_equal(after.task->posix_timer[0]->id, 1500);
	trip_end(&before, &after, &r, &to);
}

static void add_high_timer(Cpx__Task *task)
{
	Cpx__PosixTimer *t = MSG_NEW(Cpx__PosixTimer, cpx__posix_timer__init);

	t->id = 5000;
	assert_int_equal(msg_append(&task->posix_timer, &task->n_posix_timer, t), 0);
}

static void want_high_id(Cpx__Task *task, struct restored *r)
{
	add_high_timer(task);
	setenv("CPX_DENY", "timer_ids", 1);
}

/* Linux before 6.16: ids come in order only. */
static void test_ids_in_order(void **state)
{
	setenv("CPX_DENY", "timer_ids", 1);
	test_posix_timers(state);
	test_overrun(state);
	test_pending(state);
	unsetenv("CPX_DENY");
	assert_restore_refuses(want_high_id, "POSIX timer 5000", "Linux 6.16");
	unsetenv("CPX_DENY");
}

static void many(struct subject *s)
{
	for (int i = 0; i < 300; i++)
		arm(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN, i), 1000000 * MS, i * MS);
}

static void test_many(void **state)
{
	struct dumped before, after;
	struct restored r;
	struct subject to;

	trip(many, &before, &after, &r, &to);
	assert_int_equal(after.task->n_posix_timer, 300);
	assert_same_timers(before.task, after.task);
	trip_end(&before, &after, &r, &to);
}

static void *end_at_once(void *id)
{
	*(int *)id = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN, 0);
	return NULL;
}

static void notify_dead(struct subject *s)
{
	pthread_t t;
	int id;

	pthread_create(&t, NULL, end_at_once, &id);
	pthread_join(t, NULL);
}

static void test_refusals(void **state)
{
	assert_dump_refuses(notify_dead, "POSIX timer 0", "thread that has ended");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_itimers),	     cmocka_unit_test(test_expired_itimer),
		cmocka_unit_test(test_posix_timers), cmocka_unit_test(test_overrun),
		cmocka_unit_test(test_pending),	     cmocka_unit_test(test_high_id),
		cmocka_unit_test(test_many),	     cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_ids_in_order), cmocka_unit_test(test_expiry_in_freeze),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
