/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MADV_DONTFORK memory for a twin: madvise(2) takes the mark off before the fork and puts it back after it, all in
 * the one batch that makes the twin, which the task finishes whatever becomes of us. One call covers neighbours.
 *
 * Where they are too many for a batch, a call covers several with holes between them: madvise goes on behind a hole
 * and says ENOMEM in the end (mm/madvise.c, madvise_walk_vmas; want of memory is EAGAIN).
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define RUNS_MAX ((LANE_CALLS - 2) / 2)

/* Is anything at all mapped between? *at is where the search goes on: ranges ascend. */
static bool is_hole(const struct tracee *t, uint64_t start, uint64_t end, size_t *at)
{
	const struct proc_vmas *maps = &t->inject->maps;
	uint64_t own = t->inject->map;

	if (own < end && own + t->inject->map_size > start)
		return false;
	while (*at < maps->n && maps->vma[*at].end <= start)
		++*at;
	return *at == maps->n || maps->vma[*at].start >= end;
}

static size_t join(const struct tracee *t, const struct twin_order *o, bool over_holes,
		   struct unforked *run)
{
	size_t n = 0, at = 0;

	for (size_t i = 0; i < o->n; i++) {
		const struct unforked *u = &o->unforked[i];
		bool joins = n && (run[n - 1].end == u->start ||
				   (over_holes && is_hole(t, run[n - 1].end, u->start, &at)));

		if (joins)
			run[n - 1].end = u->end;
		else
			run[n++] = *u;
	}
	return n;
}

static int may_advise(const struct tracee *t, struct err *err)
{
	static const int advice[] = {MADV_DOFORK, MADV_DONTFORK};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(advice) && r == 0; i++)
		r = seccomp_may_advise(t->inject->host, advice[i], err);
	return r;
}

int unforked_join(const struct tracee *t, const struct twin_order *o, struct unforked **ret,
		  size_t *ret_n, struct err *err)
{
	_cleanup_free_ struct unforked *run = calloc(o->n + 1, sizeof(*run));
	size_t n;
	int r;

	*ret_n = 0;
	if (!run)
		return err_nomem(err);
	r = o->n ? may_advise(t, err) : 0;
	if (r)
		return r;
	n = join(t, o, false, run);
	if (n > RUNS_MAX)
		n = join(t, o, true, run);
	if (n > RUNS_MAX)
		return err_set(err, -E2BIG, "it has too many MADV_DONTFORK mappings");
	*ret = TAKE_PTR(run);
	*ret_n = n;
	return 0;
}

void unforked_advise(struct batch *b, const struct unforked *run, size_t n, int advice)
{
	for (size_t i = 0; i < n; i++)
		BATCH_CALL(b, SYS_madvise, run[i].start, run[i].end - run[i].start,
			   (uint64_t)advice);
}

int unforked_check(const struct batch *b, unsigned first, size_t n, struct err *err)
{
	for (unsigned i = first; i < first + n; i++)
		if (batch_ret(b, i) < 0 && batch_ret(b, i) != -ENOMEM)
			return err_sys(err, (int)batch_ret(b, i), "madvise");
	return 0;
}
