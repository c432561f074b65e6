/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches of many tasks: handed over to all of them before any is waited for, so that they run on all
 * processors, and what a hand-over takes is not paid task by task.
 *
 * When something fails the batches of others may still run: the restore is given up, and all tasks with it.
 */
#include "engine/rtree.h"

#include "base/util.h"

#define AT_ONCE 64

static int post(struct rtree *rt, struct rtask *t, const struct batch *b, struct err *err)
{
	int r = b->n ? lane_post(rtask_lane(rt, t), b, err) : 0;

	return r < 0 ? rtask_context(t, err) : 0;
}

static int wait_for(struct rtree *rt, struct rtask *t, const struct batch *b, struct err *err)
{
	int r = b->n ? lane_wait(rtask_lane(rt, t), t->pidfd, t->pid, err) : 0;

	return r < 0 ? rtask_context(t, err) : 0;
}

/* ---- calls that must all succeed ------------------------------------------------------------ */

static int report_failed_call(struct remote *r, unsigned i, struct err *err)
{
	const struct call *c = &r->b.call[i];

	err_sys(err, (int)c->ret, "cannot %s (call %llu: %#llx, %#llx, %#llx, %#llx)", r->what[i],
		(unsigned long long)c->nr, (unsigned long long)c->arg[0],
		(unsigned long long)c->arg[1], (unsigned long long)c->arg[2],
		(unsigned long long)c->arg[3]);
	return rtask_context(r->t, err);
}

static int finish(struct remote *r, struct err *err)
{
	int ret = wait_for(r->rt, r->t, &r->b, err);

	for (unsigned i = 0; i < r->b.n && ret == 0; i++)
		if (r->what[i] && r->b.call[i].ret < 0 && r->b.call[i].ret > -4096)
			ret = report_failed_call(r, i, err);
	return ret;
}

int remote_call(struct remote *r, const char *what, uint64_t nr, const uint64_t arg[6], struct err *err)
{
	unsigned i = batch_add(&r->b, nr, arg);
	int ret;

	r->what[i] = what;
	/* After, not before: the data of the call added next may already be in the batch then. */
	if (!batch_is_tight(&r->b, 8, 16384))
		return 0;
	ret = post(r->rt, r->t, &r->b, err);
	if (ret == 0)
		ret = finish(r, err);
	batch_reset(&r->b);
	return ret;
}

static int each_of_some(struct rtree *rt, struct rtask *const *task, size_t n, struct remote *remote,
			remote_fn *gather, remote_fn *look, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++) {
		struct remote *r = &remote[i];

		r->rt = rt;
		r->t = task[i];
		r->b = rtask_batch(rt, task[i]);
		ret = gather(r, task[i], err);
		if (ret == 0)
			ret = post(rt, task[i], &r->b, err);
	}
	for (size_t i = 0; i < n && ret == 0; i++) {
		ret = finish(&remote[i], err);
		if (ret == 0 && look)
			ret = look(&remote[i], task[i], err);
	}
	return ret;
}

int remote_each(struct rtree *rt, struct rtask *const *task, size_t n, remote_fn *gather,
		remote_fn *look, struct err *err)
{
	_cleanup_free_ struct remote *remote = malloc(MIN(n + 1, AT_ONCE) * sizeof(*remote));
	int ret = 0;

	if (!remote)
		return err_nomem(err);
	for (size_t i = 0; i < n && ret == 0; i += AT_ONCE)
		ret = each_of_some(rt, task + i, MIN(n - i, AT_ONCE), remote, gather, look, err);
	return ret;
}

/* ---- by cursor ------------------------------------------------------------------------------ */

struct turn {
	struct batch b;
	size_t from, cursor;
	bool is_more;
};

static int begin_turn(struct rtree *rt, struct rtask *t, struct turn *u, const struct round_ops *ops,
		      struct err *err)
{
	int r;

	u->b = rtask_batch(rt, t);
	u->from = u->cursor;
	r = ops->add(rt, t, &u->b, &u->cursor, err);
	if (r < 0)
		return rtask_context(t, err);
	u->is_more = r > 0;
	return post(rt, t, &u->b, err);
}

static int end_turn(struct rtree *rt, struct rtask *t, struct turn *u, const struct round_ops *ops,
		    struct err *err)
{
	int r = wait_for(rt, t, &u->b, err);

	if (r == 0 && ops->check(rt, t, &u->b, u->from, err) < 0)
		r = rtask_context(t, err);
	u->b.n = 0; /* not to be waited for again */
	return r;
}

int rtask_rounds(struct rtree *rt, struct rtask *const *task, size_t n, const struct round_ops *ops,
		 struct err *err)
{
	_cleanup_free_ struct turn *turn = calloc(n + 1, sizeof(*turn));
	bool is_more = true;
	int r = 0;

	if (!turn)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		turn[i].is_more = true;
	while (is_more && r == 0) {
		is_more = false;
		for (size_t i = 0; i < n && r == 0; i++)
			if (turn[i].is_more)
				r = begin_turn(rt, task[i], &turn[i], ops, err);
		for (size_t i = 0; i < n && r == 0; i++) {
			if (turn[i].b.n)
				r = end_turn(rt, task[i], &turn[i], ops, err);
			is_more |= turn[i].is_more;
		}
	}
	return r;
}
