/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inject_once PID: all that src/tracee does in a dump: freeze, inject, batches in every thread,
 * twins, thaw, work in the twins. To be killed at any moment. Prints how long it took with -v.
 */
#include "tracee/tracee.h"

#include "base/util.h"

#include <inttypes.h>
#include <sys/syscall.h>
#include <time.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static int fail(const struct err *err)
{
	fprintf(stderr, "inject_once: %s\n", err->msg);
	return 1;
}

enum { CALLS = 4, MAX_THREADS = 1000 };

static int check_answers(struct tracee *t, const struct thread_batch *tb, struct err *err)
{
	pid_t tid = t->thread[tb->thread].tid;

	for (unsigned i = 0; i < tb->batch.n; i++)
		if (batch_ret(&tb->batch, i) != (i % 2 ? t->pid : tid))
			return err_set(err, -EIO, "thread %d says it is %" PRId64, tid,
				       batch_ret(&tb->batch, i));
	return 0;
}

/* All threads of a task at once, a few calls each. */
static int run_task(struct tracee *t, struct err *err)
{
	static struct call call[MAX_THREADS][CALLS];
	static struct thread_batch tb[MAX_THREADS];
	struct batch whole = tracee_batch(t);
	size_t n = 0;
	int r;

	for (size_t i = 0; i < t->nthreads && n < MAX_THREADS; i++) {
		if (t->thread[i].is_exited || (t->mm_owner == t && i == 0))
			continue;
		tb[n] = (struct thread_batch){i, batch_part(&whole, call[n], CALLS, 32)};
		for (int k = 0; k < CALLS; k++)
			BATCH_CALL(&tb[n].batch, k % 2 ? SYS_getpid : SYS_gettid);
		n++;
	}
	r = tracee_threads_run(t, tb, n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = check_answers(t, &tb[i], err);
	return r;
}

static int run_host(struct tracee *t, struct err *err)
{
	struct batch b = tracee_batch(t);
	int r;

	BATCH_CALL(&b, SYS_getpid);
	r = tracee_run(t, &b, err);
	return r == 0 && batch_ret(&b, 0) != t->pid ? err_set(err, -EIO, "wrong pid") : r;
}

static int run_threads(struct tree *tree, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < tree->n; i++) {
		struct tracee *t = tree->task[i];

		if (!t->is_zombie)
			r = run_task(t, err);
		if (r == 0 && !t->is_zombie && t->mm_owner == t)
			r = run_host(t, err);
	}
	return r;
}

static int make_twins(struct tree *tree, struct twin **twin, struct err *err)
{
	_cleanup_free_ struct twin_order *order = calloc(tree->n, sizeof(*order));
	size_t n = 0;

	if (!order)
		return err_nomem(err);
	for (size_t i = 0; i < tree->n; i++)
		if (!tree->task[i]->is_zombie && tree->task[i]->mm_owner == tree->task[i])
			order[n++].t = tree->task[i];
	return twins_make(order, n, twin, err);
}

static int work_in_twin(struct twin *w, struct err *err)
{
	struct batch b = twin_batch(w);
	int r;

	BATCH_CALL(&b, SYS_getpid);
	for (int i = 0; i < 20; i++) {
		r = twin_run(w, &b, err);
		if (r)
			return r;
		if (batch_ret(&b, 0) != w->pid)
			return err_set(err, -EIO, "twin %d says it is %" PRId64, w->pid,
				       batch_ret(&b, 0));
	}
	return 0;
}

static int dump(struct tree *tree, struct twin **twin, bool verbose, struct err *err)
{
	double t0 = now_ms(), t1, t2, t3, t4;
	int r = tracee_inject_all(tree, err);

	t1 = now_ms();
	if (r == 0)
		r = run_threads(tree, err);
	t2 = now_ms();
	if (r == 0)
		r = make_twins(tree, twin, err);
	t3 = now_ms();
	tree_thaw(tree, THAW_RUN);
	t4 = now_ms();
	if (verbose)
		printf("inject %.2f threads %.2f twins %.2f thaw %.2f ms\n", t1 - t0, t2 - t1,
		       t3 - t2, t4 - t3);
	for (size_t i = 0; r == 0 && i < tree->n; i++)
		if (twin[i])
			r = work_in_twin(twin[i], err);
	return r;
}

int main(int argc, char **argv)
{
	bool verbose = argc > 2;
	struct freeze_options o = {0};
	struct twin **twin;
	struct err err = ERR_INIT;
	struct tree tree;
	double t0 = now_ms();

	if (argc < 2)
		return 2;
	if (tree_freeze(&tree, atoi(argv[1]), &o, &err))
		return fail(&err);
	if (verbose)
		printf("freeze %.2f ms, %.2f of them frozen, %zu tasks\n", now_ms() - t0,
		       now_ms() - tree.frozen_at_ns * 1e-6, tree.n);
	twin = calloc(tree.n, sizeof(*twin));
	if (dump(&tree, twin, verbose, &err)) {
		tree_thaw(&tree, THAW_RUN);
		return fail(&err);
	}
	for (size_t i = 0; i < tree.n; i++)
		twin_free(twin[i]);
	free(twin);
	tree_release(&tree);
	return 0;
}
