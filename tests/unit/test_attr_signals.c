/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/signals.c: actions, alternate stacks, queues. */
#include "attr_case.h"

#include <sys/resource.h>

static char altstack[65536];

static void set_actions(struct subject *s)
{
	for (int sig = 1; sig <= 64; sig++) {
		uint64_t action[4] = {0x1000 + sig,
				      0x04000000 | (sig & 1 ? SA_SIGINFO : SA_RESTART), 0x7000,
				      1ULL << sig % 64 & ~(1ULL << 8 | 1ULL << 18)};

		syscall(SYS_rt_sigaction, sig, action, NULL, 8);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_DFL); /* leaves its flags: not the same as never touched */
	sigaltstack(&(stack_t){.ss_sp = altstack, .ss_size = sizeof(altstack)}, NULL);
}

static void queue_value(pid_t pid, int sig, int value)
{
	union sigval v = {.sival_int = value};

	if (sigqueue(pid, sig, v) < 0)
		_exit(98);
}

static void queue_signals(struct subject *s)
{
	signal(SIGCHLD, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	queue_value(getpid(), SIGRTMIN + 3, 1);
	queue_value(getpid(), SIGRTMIN + 1, 2);
	queue_value(getpid(), SIGRTMIN + 3, 3);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGCHLD);
	tgkill(getpid(), gettid(), SIGUSR2);
	pthread_kill(pthread_self(), SIGRTMIN + 3);
	for (unsigned i = 1; i < s->threads; i++)
		tgkill(getpid(), s->lane[i].tid, SIGTERM);
	for (int i = 0; i < 70; i++)
		queue_value(getpid(), SIGRTMIN + 5, i);
}

static void queue_thousands(struct subject *s)
{
	for (int i = 0; i < 3000; i++)
		queue_value(getpid(), SIGRTMIN + i % 3, i);
	for (int i = 0; i < 1500; i++)
		pthread_kill(pthread_self(), SIGRTMIN + 7);
}

static void test_long_queues(void **state)
{
	round_trip(queue_thousands);
}

static void test_actions(void **state)
{
	round_trip(set_actions);
}

static void test_queues(void **state)
{
	round_trip_threads(queue_signals, 3);
}

static void test_order(void **state)
{
	struct subject s = subject_start(queue_signals);
	struct dumped d;
	const siginfo_t *si;

	dump(&s, &d);
	assert_int_equal(d.task->signals->n_pending, 5 + 70);
	si = (const siginfo_t *)d.task->signals->pending[2].data;
	assert_int_equal(si->si_signo, SIGRTMIN + 3);
	assert_int_equal(si->si_value.sival_int, 3);
	assert_int_equal(si->si_code, SI_QUEUE);
	assert_int_equal(d.task->thread[0]->signals->n_pending, 2);
	subject_end(&s);
	dumped_release(&d);
}

/* A full queue: the signal is pending, its siginfo is lost. */
static void queue_overflow(struct subject *s)
{
	setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 100000});
	kill(getpid(), SIGUSR1);
	tgkill(getpid(), gettid(), SIGUSR2);
}

static void test_unqueued(void **state)
{
	struct subject s = subject_start(queue_overflow);
	struct dumped d;

	dump(&s, &d);
	assert_int_equal(d.task->signals->n_pending, 1);
	assert_int_equal(((const siginfo_t *)d.task->signals->pending[0].data)->si_signo, SIGUSR1);
	assert_int_equal(d.task->thread[0]->signals->n_pending, 1);
	subject_end(&s);
	dumped_release(&d);
}

/* What the building of a task left behind must be gone. */
static void test_strays(void **state)
{
	struct subject from = subject_start(NULL), to = subject_start(NULL);
	struct dumped before, after;
	struct restored r;

	dump(&from, &before);
	kill(to.pid, SIGCHLD);
	kill(to.pid, SIGWINCH);
	kill(to.pid, SIGTERM);
	restore(&to, &r, before.task);
	dump(&to, &after);
	assert_int_equal(after.task->signals->n_pending, 0);
	subject_end(&from);
	subject_end(&to);
	dumped_release(&before);
	dumped_release(&after);
	restored_release(&r);
}

static void test_malformed(void **state)
{
	struct subject s = subject_start(queue_signals);
	struct err err = ERR_INIT;
	struct restored r;
	struct dumped d;

	dump(&s, &d);
	restore_begin(&r);
	assert_int_equal(signals_attr_ops.check(&r.ctx, d.task, d.task->thread[0], &err), 0);
	d.task->signals->pending[1].len = 17;
	assert_int_equal(signals_attr_ops.check(&r.ctx, d.task, d.task->thread[0], &err), -EBADMSG);
	d.task->signals->pending[1].len = 128;
	d.task->signals->action[0]->signo = SIGKILL;
	assert_int_equal(signals_attr_ops.check(&r.ctx, d.task, d.task->thread[0], &err), -EBADMSG);
	subject_end(&s);
	dumped_release(&d);
	restored_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),	  cmocka_unit_test(test_queues),
		cmocka_unit_test(test_order),	  cmocka_unit_test(test_unqueued),
		cmocka_unit_test(test_strays),	  cmocka_unit_test(test_long_queues),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
