/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Subjects for the tests of src/res's attributes: child processes that set up some state and then
 * run the calls of batches, as a task in the mailbox loop does. A dump reads one, a restore
 * rebuilds another from the record, and a dump of that must give the same record.
 */
#ifndef CPX_TESTS_ATTR_CASE_H
#define CPX_TESTS_ATTR_CASE_H

#include "base/kabi.h"
#include "base/util.h"
#include "res/attr.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

enum { LANES = 3, LANE_DATA = 128 << 10, MAX_OPS = 32 };

struct test_lane {
	uint32_t go, done; /* numbers of batches handed over and finished */
	pid_t tid;
	unsigned n;
	struct call call[1000];
	uint8_t data[LANE_DATA];
};

struct subject {
	pid_t pid;
	unsigned threads;
	struct test_lane *lane; /* shared, at the same address in the subject */
};

static void futex_wait(uint32_t *word, uint32_t value)
{
	struct timespec limit = {.tv_sec = 10};

	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0);
}

static void futex_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int64_t raw_call(const struct call *c)
{
	register uint64_t r10 __asm__("r10") = c->arg[3];
	register uint64_t r8 __asm__("r8") = c->arg[4];
	register uint64_t r9 __asm__("r9") = c->arg[5];
	int64_t ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(c->nr), "D"(c->arg[0]), "S"(c->arg[1]), "d"(c->arg[2]), "r"(r10),
			   "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* The loop: never returns. */
static void serve(struct test_lane *l)
{
	for (uint32_t turn = 0;; turn++) {
		if (turn)
			futex_set(&l->done, turn);
		while (__atomic_load_n(&l->go, __ATOMIC_ACQUIRE) == turn)
			futex_wait(&l->go, turn);
		for (unsigned i = 0; i < l->n; i++)
			l->call[i].ret = raw_call(&l->call[i]);
	}
}

static void *serve_thread(void *lane)
{
	struct test_lane *l = lane;

	l->tid = gettid();
	serve(l);
	return NULL;
}

static void start_threads(struct subject *s)
{
	for (unsigned i = 1; i < s->threads; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, serve_thread, &s->lane[i]))
			_exit(99);
	}
}

/* setup: runs in the subject with all signals blocked, threads (if any) already waiting; NULL:
 * nothing. */
UNUSED static struct subject subject_start_threads(void (*setup)(struct subject *s),
						   unsigned threads)
{
	struct subject s = {.threads = threads};
	sigset_t all, old;

	s.lane = mmap(NULL, LANES * sizeof(*s.lane), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s.lane, MAP_FAILED);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	s.pid = fork();
	if (s.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		start_threads(&s);
		if (setup)
			setup(&s);
		futex_set((uint32_t *)&s.lane[0].tid, getpid());
		serve(&s.lane[0]);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_true(s.pid > 0);
	for (unsigned i = 0; i < threads; i++)
		while (!__atomic_load_n(&s.lane[i].tid, __ATOMIC_ACQUIRE))
			assert_int_equal(waitpid(s.pid, NULL, WNOHANG), 0);
	return s;
}

UNUSED static struct subject subject_start(void (*setup)(struct subject *s))
{
	return subject_start_threads(setup, 1);
}

UNUSED static void subject_end(struct subject *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	munmap(s->lane, LANES * sizeof(*s->lane));
}

static struct batch subject_batch(struct subject *s, unsigned lane)
{
	struct test_lane *l = &s->lane[lane];

	return (struct batch){.call = l->call,
			      .max = ARRAY_SIZE(l->call),
			      .data = l->data,
			      .remote_data = (uintptr_t)l->data,
			      .size = sizeof(l->data)};
}

static void subject_post(struct subject *s, unsigned lane, const struct batch *b)
{
	struct test_lane *l = &s->lane[lane];

	assert_false(b->overflow);
	l->n = b->n;
	futex_set(&l->go, l->go + 1);
}

static void subject_wait(struct subject *s, unsigned lane)
{
	struct test_lane *l = &s->lane[lane];
	uint32_t done;

	while ((done = __atomic_load_n(&l->done, __ATOMIC_ACQUIRE)) != l->go) {
		assert_int_equal(waitpid(s->pid, NULL, WNOHANG), 0);
		futex_wait(&l->done, done);
	}
}

static void subject_run(struct subject *s, unsigned lane, const struct batch *b)
{
	subject_post(s, lane, b);
	subject_wait(s, lane);
}

/* One call in the subject. */
#define SUBJECT_CALL(s, nr_, ...)                                                                  \
	({                                                                                         \
		struct batch b_ = subject_batch((s), 0);                                           \
		BATCH_CALL(&b_, (nr_), ##__VA_ARGS__);                                             \
		subject_run((s), 0, &b_);                                                          \
		batch_ret(&b_, 0);                                                                 \
	})

/* ---- dump ----------------------------------------------------------------------------------- */

struct dumped {
	struct dump_ctx ctx;
	struct refusals refusals;
	struct tree tree;
	struct tracee tracee, *list[1];
	struct tracee_thread thread[LANES];
	Cpx__Task *task;
};

/* Time that passes between what is read from outside and what is asked. */
static unsigned freeze_ms;

static void stop_thread(pid_t tid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
	assert_int_equal(waitpid(tid, &status, __WALL), tid);
	assert_true(WIFSTOPPED(status));
}

static void dump_begin(struct subject *s, struct dumped *d)
{
	memset(d, 0, sizeof(*d));
	d->ctx = (struct dump_ctx){
		.tree = &d->tree, .refusals = &d->refusals, .proc_fd = open("/proc", O_PATH)};
	d->tracee = (struct tracee){.pid = s->pid,
				    .ppid = getpid(),
				    .pidfd = -1,
				    .comm = "subject",
				    .thread = d->thread,
				    .nthreads = s->threads,
				    .mm_owner = &d->tracee};
	d->list[0] = &d->tracee;
	d->tree = (struct tree){.task = d->list, .n = 1, .max = 1};
	d->task = MSG_NEW(Cpx__Task, cpx__task__init);
	d->task->pid = s->pid;
	for (unsigned i = 0; i < s->threads; i++) {
		Cpx__Thread *th = MSG_NEW(Cpx__Thread, cpx__thread__init);

		th->tid = d->thread[i].tid = s->lane[i].tid;
		assert_int_equal(msg_append(&d->task->thread, &d->task->n_thread, th), 0);
		stop_thread(th->tid);
	}
}

static void check_ok(int r, const struct attr_ops *ops, const struct err *err)
{
	if (r < 0)
		fail_msg("%s: %s", ops->name, err->msg);
}

static void read_outside(struct dumped *d, const struct attr_ops *ops)
{
	struct err err = ERR_INIT;

	if (ops->read && !ops->per_thread)
		check_ok(ops->read(&d->ctx, &d->tracee, NULL, d->task, NULL, &err), ops, &err);
	for (size_t i = 0; ops->read && ops->per_thread && i < d->tracee.nthreads; i++)
		check_ok(ops->read(&d->ctx, &d->tracee, &d->thread[i], d->task, d->task->thread[i],
				   &err),
			 ops, &err);
}

static void ask_thread(struct subject *s, struct dumped *d, unsigned lane)
{
	struct batch b = subject_batch(s, lane);
	uint64_t scratch[MAX_OPS][16] = {0};
	Cpx__Thread *th = d->task->thread[lane];
	struct err err = ERR_INIT;

	for (size_t k = 0; attr_registry[k]; k++)
		if (attr_registry[k]->ask && (attr_registry[k]->per_thread || lane == 0))
			check_ok(attr_registry[k]->ask(&d->ctx, &d->tracee, d->task, th, &b,
						       scratch[k], &err),
				 attr_registry[k], &err);
	subject_run(s, lane, &b);
	for (size_t k = 0; attr_registry[k]; k++)
		if (attr_registry[k]->take && (attr_registry[k]->per_thread || lane == 0))
			check_ok(attr_registry[k]->take(&d->ctx, &d->tracee, &b, scratch[k],
							d->task, th, &err),
				 attr_registry[k], &err);
}

/* Released with dumped_release(). Refusals are in d->refusals. */
UNUSED static void dump(struct subject *s, struct dumped *d)
{
	dump_begin(s, d);
	for (size_t k = 0; attr_registry[k]; k++)
		read_outside(d, attr_registry[k]);
	for (unsigned i = 0; i < s->threads; i++)
		assert_int_equal(ptrace(PTRACE_DETACH, s->lane[i].tid, 0, 0), 0);
	usleep(freeze_ms * 1000);
	for (unsigned i = 0; i < s->threads; i++)
		ask_thread(s, d, i);
}

UNUSED static void dumped_release(struct dumped *d)
{
	attrs_dump_release(&d->ctx);
	refusals_release(&d->refusals);
	cpx__task__free_unpacked(d->task, NULL);
	close(d->ctx.proc_fd);
}

/* ---- restore -------------------------------------------------------------------------------- */

struct restored {
	struct restore_ctx ctx;
	struct refusals refusals;
};

UNUSED static void restore_begin(struct restored *r)
{
	memset(r, 0, sizeof(*r));
	r->ctx.refusals = &r->refusals;
	r->ctx.proc_fd = open("/proc", O_PATH);
}

UNUSED static void restored_release(struct restored *r)
{
	attrs_restore_release(&r->ctx);
	refusals_release(&r->refusals);
	close(r->ctx.proc_fd);
}

UNUSED static void check_task(struct restored *r, const Cpx__Task *task)
{
	struct err err = ERR_INIT;

	for (size_t k = 0; attr_registry[k]; k++) {
		const struct attr_ops *ops = attr_registry[k];

		if (ops->check && !ops->per_thread)
			check_ok(ops->check(&r->ctx, task, task->thread[0], &err), ops, &err);
		for (size_t i = 0; ops->check && ops->per_thread && i < task->n_thread; i++)
			check_ok(ops->check(&r->ctx, task, task->thread[i], &err), ops, &err);
	}
}

static void check_given(struct restored *r, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, const struct batch *b, unsigned first, unsigned end,
			const uint64_t *scratch, const struct attr_ops *ops)
{
	struct err err = ERR_INIT;

	if (ops->given)
		check_ok(ops->given(&r->ctx, stage, task, th, b, scratch, &err), ops, &err);
	for (unsigned i = first; !ops->given && i < end; i++)
		if (batch_ret(b, i) < 0)
			fail_msg("%s: call %llu: %s", ops->name, (unsigned long long)b->call[i].nr,
				 strerror(-batch_ret(b, i)));
}

/* One batch; returns the index of the ops to go on with. */
static size_t give_some(struct subject *s, struct restored *r, enum give_stage stage,
			const Cpx__Task *task, unsigned lane, size_t from,
			uint64_t scratch[MAX_OPS][16])
{
	struct batch b = subject_batch(s, lane);
	unsigned first[MAX_OPS + 1] = {0};
	const Cpx__Thread *th = task->thread[lane];
	struct err err = ERR_INIT;
	int more = 0;
	size_t k;

	for (k = from; attr_registry[k] && !more && !batch_is_tight(&b, 200, 32768); k++) {
		first[k] = b.n;
		if (attr_registry[k]->give && (attr_registry[k]->per_thread || lane == 0))
			more = attr_registry[k]->give(&r->ctx, stage, task, th, &b, scratch[k],
						      &err);
		check_ok(more, attr_registry[k], &err);
		first[k + 1] = b.n;
	}
	subject_run(s, lane, &b);
	for (size_t i = from; i < k; i++)
		if (attr_registry[i]->give && (attr_registry[i]->per_thread || lane == 0))
			check_given(r, stage, task, th, &b, first[i], first[i + 1], scratch[i],
				    attr_registry[i]);
	return k - more;
}

static void give_thread(struct subject *s, struct restored *r, enum give_stage stage,
			const Cpx__Task *task, unsigned lane)
{
	uint64_t scratch[MAX_OPS][16] = {0};
	size_t k = 0;

	while (attr_registry[k])
		k = give_some(s, r, stage, task, lane, k, scratch);
}

/* The record as if it had been made of this subject: its pids are not kept here. */
static void adopt(const struct subject *s, Cpx__Task *task)
{
	task->pid = s->pid;
	for (size_t k = 0; k < task->n_posix_timer; k++)
		for (size_t i = 0; i < task->n_thread; i++)
			if (task->posix_timer[k]->notify_tid == task->thread[i]->tid)
				task->posix_timer[k]->notify_tid = s->lane[i].tid;
	for (size_t i = 0; i < task->n_thread; i++)
		task->thread[i]->tid = s->lane[i].tid;
}

/* What the engine does first: the rseq registration that fork(2) has copied. */
static void forget_rseq(struct subject *s, struct dumped *d)
{
	for (unsigned i = 0; i < s->threads; i++) {
		const Cpx__ThreadMemory *m = d->task->thread[i]->memory;
		struct batch b = subject_batch(s, i);

		if (!m->rseq)
			continue;
		BATCH_CALL(&b, SYS_rseq, m->rseq, m->rseq_len, 1, m->rseq_signature);
		subject_run(s, i, &b);
		assert_int_equal(batch_ret(&b, 0), 0);
	}
}

/* Rebuilds into a subject with as many threads. Asserts that nothing is refused. */
UNUSED static void restore(struct subject *s, struct restored *r, Cpx__Task *task)
{
	struct err err = ERR_INIT;
	struct dumped before;

	dump(s, &before);
	forget_rseq(s, &before);
	dumped_release(&before);
	adopt(s, task);
	restore_begin(r);
	check_task(r, task);
	if (r->refusals.n) {
		char line[1024];

		refusal_format(&r->refusals.item[0], line, sizeof(line));
		fail_msg("refused: %s", line);
	}
	for (enum give_stage stage = 0; stage < GIVE_STAGES; stage++) {
		for (size_t k = 0; stage == GIVE_CREDS && attr_registry[k]; k++)
			if (attr_registry[k]->give_outside)
				check_ok(
					attr_registry[k]->give_outside(&r->ctx, task, s->pid, &err),
					attr_registry[k], &err);
		for (unsigned i = 0; i < s->threads; i++)
			give_thread(s, r, stage, task, i);
	}
}

/* ---- both ----------------------------------------------------------------------------------- */

UNUSED static void assert_same_message(const void *a, const void *b, const char *what)
{
	_cleanup_free_ uint8_t *x = malloc(protobuf_c_message_get_packed_size(a) + 1);
	_cleanup_free_ uint8_t *y = malloc(protobuf_c_message_get_packed_size(b) + 1);
	size_t nx = protobuf_c_message_pack(a, x), ny = protobuf_c_message_pack(b, y);

	if (nx != ny || memcmp(x, y, nx))
		fail_msg("%s: the restored record differs", what);
}

/* Everything but timers, whose values move. */
UNUSED static void assert_same_task(Cpx__Task *a, Cpx__Task *b)
{
	assert_same_message(a->fs, b->fs, "fs");
	assert_same_message(a->signals, b->signals, "signals");
	assert_same_message(a->flags, b->flags, "flags");
	assert_int_equal(a->n_rlimit, b->n_rlimit);
	for (size_t i = 0; i < a->n_rlimit; i++)
		assert_same_message(a->rlimit[i], b->rlimit[i], "rlimit");
	assert_int_equal(a->n_thread, b->n_thread);
	for (size_t i = 0; i < a->n_thread; i++) {
		assert_same_message(a->thread[i]->signals, b->thread[i]->signals, "thread signals");
		assert_same_message(a->thread[i]->memory, b->thread[i]->memory, "thread memory");
		assert_same_message(a->thread[i]->creds, b->thread[i]->creds, "credentials");
		assert_same_message(a->thread[i]->sched, b->thread[i]->sched, "scheduling");
		assert_same_message(a->thread[i]->flags, b->thread[i]->flags, "thread flags");
	}
}

/* Dumps a subject that has been set up, restores it into a plain one, dumps that, compares. */
UNUSED static void round_trip_threads(void (*setup)(struct subject *s), unsigned threads)
{
	struct subject from = subject_start_threads(setup, threads),
		       to = subject_start_threads(NULL, threads);
	struct dumped before, after;
	struct restored r;

	dump(&from, &before);
	assert_int_equal(before.refusals.n, 0);
	subject_end(&from);
	restore(&to, &r, before.task);
	dump(&to, &after);
	assert_same_task(before.task, after.task);
	subject_end(&to);
	dumped_release(&before);
	dumped_release(&after);
	restored_release(&r);
}

UNUSED static void round_trip(void (*setup)(struct subject *s))
{
	round_trip_threads(setup, 1);
}

UNUSED static bool is_refused(const struct refusals *list, const char *object, const char *reason)
{
	for (size_t i = 0; i < list->n; i++)
		if (strstr(list->item[i].object ? list->item[i].object : "", object) &&
		    strstr(list->item[i].reason, reason))
			return true;
	return false;
}

/* Dumps a subject; a refusal with these words must be there. */
UNUSED static void assert_dump_refuses(void (*setup)(struct subject *s), const char *object,
				       const char *reason)
{
	struct subject s = subject_start(setup);
	struct dumped d;

	dump(&s, &d);
	assert_true(is_refused(&d.refusals, object, reason));
	subject_end(&s);
	dumped_release(&d);
}

/* The record of a plain subject, changed by `change`, must be refused at restore. */
UNUSED static void assert_restore_refuses(void (*change)(Cpx__Task *task, struct restored *r),
					  const char *object, const char *reason)
{
	struct subject s = subject_start(NULL);
	struct dumped d;
	struct restored r;

	dump(&s, &d);
	restore_begin(&r);
	check_task(&r, d.task);
	assert_int_equal(r.refusals.n, 0);
	change(d.task, &r);
	check_task(&r, d.task);
	assert_true(is_refused(&r.refusals, object, reason));
	subject_end(&s);
	dumped_release(&d);
	restored_release(&r);
}

#endif
