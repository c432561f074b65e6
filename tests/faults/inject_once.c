/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inject_once PID: all that src/tracee does in a dump: freeze, inject, batches in every thread, twins,
 * thaw, work in the twins. To be killed at any moment. Prints how long it took with -v.
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

static int run_thread(struct tracee *t, size_t i, struct err *err)
{
	struct batch b = tracee_batch(t);
	unsigned tid = BATCH_CALL(&b, SYS_gettid), pid = BATCH_CALL(&b, SYS_getpid);
	int r;

	if (t->thread[i].is_exited)
		return 0;
	r = tracee_thread_run(t, i, &b, err);
	if (r)
		return r;
	if (batch_ret(&b, tid) != t->thread[i].tid || batch_ret(&b, pid) != t->pid)
		return err_set(err, -EIO, "thread %d says it is %" PRId64 " of %" PRId64,
			       t->thread[i].tid, batch_ret(&b, tid), batch_ret(&b, pid));
	return 0;
}

static int run_threads(struct tree *tree, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < tree->n; i++)
		for (size_t j = 0; r == 0 && j < tree->task[i]->nthreads; j++)
			r = run_thread(tree->task[i], j, err);
	return r;
}

static int make_twins(struct tree *tree, struct twin **twin, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < tree->n; i++)
		if (!tree->task[i]->is_zombie && tree->task[i]->mm_owner == tree->task[i])
			r = twin_make(tree->task[i], &twin[i], err);
	return r;
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
		printf("freeze %.2f ms, %zu tasks\n", now_ms() - t0, tree.n);
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
