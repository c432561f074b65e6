/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attributes and descriptors: what src/res adds to batches, run in all threads at once, and the
 * results checked.
 */
#include "engine/rtree.h"

#include "base/util.h"


#define MAX_OPS 32

/* One thread's batch in the making. */
struct gift {
	struct rtask *t;
	struct rthread *th;
	struct batch b;
	unsigned first[MAX_OPS + 1]; /* calls of ops i: [first[i], first[i + 1]) */
	uint64_t scratch[MAX_OPS][GIVE_WORDS];
	size_t from, to; /* ops in this batch */
	bool is_split;	 /* the last of them has more to give */
};

static bool is_zombie(const struct rtask *t)
{
	return t->msg->state == CPX__TASK__STATE__ZOMBIE;
}

static bool applies(const struct gift *g, const struct attr_ops *ops)
{
	return ops->give && (ops->per_thread ? !g->th->msg->exited : g->th == &g->t->thread[0]);
}

static int gift_context(const struct gift *g, const struct attr_ops *ops, struct err *err)
{
	err_context(err, "%s", ops->name);
	if (g->th != &g->t->thread[0])
		err_context(err, "thread %d", g->th->tid);
	return rtask_context(g->t, err);
}

static int check_calls(const struct gift *g, size_t i, struct err *err)
{
	for (unsigned k = g->first[i]; k < g->first[i + 1]; k++)
		if (batch_ret(&g->b, k) < 0 && batch_ret(&g->b, k) > -4096)
			return err_sys(err, (int)batch_ret(&g->b, k), "call %llu failed",
				       (unsigned long long)g->b.call[k].nr);
	return 0;
}

static int check_gift(struct rtree *rt, struct gift *g, enum give_stage stage, struct err *err)
{
	for (size_t i = g->from; i < g->to; i++) {
		const struct attr_ops *ops = attr_registry[i];
		int r;

		if (!applies(g, ops))
			continue;
		r = ops->given ? ops->given(&rt->ctx, stage, g->t->msg, g->th->msg, &g->b,
					    g->scratch[i], err) :
				 check_calls(g, i, err);
		if (r < 0)
			return gift_context(g, ops, err);
	}
	return 0;
}

/* Adds ops from g->from on, until the batch is tight. */
static int wrap(struct rtree *rt, struct gift *g, enum give_stage stage, struct err *err)
{
	size_t i;

	g->b = lane_batch(&rt->box, g->th->lane);
	g->is_split = false;
	for (i = g->from; attr_registry[i] && !g->is_split && !batch_is_tight(&g->b, 200, 32768); i++) {
		const struct attr_ops *ops = attr_registry[i];
		int r = 0;

		g->first[i] = g->b.n;
		if (applies(g, ops))
			r = ops->give(&rt->ctx, stage, g->t->msg, g->th->msg, &g->b, g->scratch[i], err);
		if (r < 0)
			return gift_context(g, ops, err);
		g->first[i + 1] = g->b.n;
		g->is_split = r > 0;
	}
	g->to = i;
	return g->b.n ? lane_post(mailbox_lane(&rt->box, g->th->lane), &g->b, err) : 0;
}

static int collect(struct rtree *rt, struct gift *g, enum give_stage stage, struct err *err)
{
	int r = 0;

	if (g->b.n)
		r = lane_wait(mailbox_lane(&rt->box, g->th->lane), g->t->pidfd, g->th->tid, err);
	return r < 0 ? rtask_context(g->t, err) : check_gift(rt, g, stage, err);
}

static int give_round(struct rtree *rt, struct gift *gift, size_t n, enum give_stage stage, struct err *err)
{
	bool is_more = true;
	int r = 0;

	while (is_more && r == 0) {
		is_more = false;
		for (size_t i = 0; i < n && r == 0; i++)
			r = wrap(rt, &gift[i], stage, err);
		for (size_t i = 0; i < n && r == 0; i++) {
			r = collect(rt, &gift[i], stage, err);
			gift[i].from = gift[i].to - gift[i].is_split;
			is_more |= attr_registry[gift[i].from] != NULL;
		}
	}
	return r;
}

int give_attributes(struct rtree *rt, rtask_filter *want, const void *arg, enum give_stage stage,
		    struct err *err)
{
	_cleanup_free_ struct gift *gift = calloc(rt->next_lane + 1, sizeof(*gift));
	size_t n = 0;

	if (!gift)
		return err_nomem(err);
	for (size_t i = 0; i < rt->n; i++) {
		struct rtask *t = rt->task[i];

		if (!t->msg || is_zombie(t) || !want(t, arg))
			continue;
		for (size_t k = 0; k < t->nthreads; k++)
			gift[n].t = t, gift[n++].th = &t->thread[k];
	}
	return give_round(rt, gift, n, stage, err);
}

int give_outside(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err)
{
	for (size_t i = 0; i < rt->n; i++) {
		struct rtask *t = rt->task[i];

		if (!t->msg || is_zombie(t) || !want(t, arg))
			continue;
		for (size_t k = 0; attr_registry[k]; k++) {
			const struct attr_ops *ops = attr_registry[k];

			if (ops->give_outside && ops->give_outside(&rt->ctx, t->msg, t->pid, err) < 0) {
				err_context(err, "%s", ops->name);
				return rtask_context(t, err);
			}
		}
	}
	return 0;
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static bool has_own_table(const struct rtree *rt, const struct rtask *t)
{
	for (size_t i = 0; i < rt->n && rt->task[i] != t; i++)
		if (rt->task[i]->msg && !is_zombie(rt->task[i]) &&
		    rt->task[i]->msg->fd_table == t->msg->fd_table)
			return false;
	return true;
}

static int add_descriptors(struct rtree *rt, struct rtask *t, struct batch *b, size_t *cursor,
			   struct err *err)
{
	return files_install(&rt->ctx, image_fd_table(rt->image, t->msg->fd_table), b, -1, cursor, err);
}

static int check_descriptors(struct rtree *rt, struct rtask *t, const struct batch *b, size_t from,
			     struct err *err)
{
	for (unsigned i = 0; i < b->n; i++)
		if (batch_ret(b, i) < 0)
			return err_sys(err, (int)batch_ret(b, i),
				       "cannot install descriptors (call %llu, %llu, %llu)",
				       (unsigned long long)b->call[i].nr,
				       (unsigned long long)b->call[i].arg[0],
				       (unsigned long long)b->call[i].arg[1]);
	return 0;
}

int give_descriptors(struct rtree *rt, struct err *err)
{
	static const struct round_ops ops = {add_descriptors, check_descriptors};
	_cleanup_free_ struct rtask **task = calloc(rt->n + 1, sizeof(struct rtask *));
	size_t n = 0;

	if (!task)
		return err_nomem(err);
	for (size_t i = 0; i < rt->n; i++)
		if (rt->task[i]->msg && !is_zombie(rt->task[i]) && has_own_table(rt, rt->task[i]))
			task[n++] = rt->task[i];
	return rtask_rounds(rt, task, n, &ops, err);
}

static int settle(struct rtree *rt, struct rtask *t, const Cpx__FdTable *table, struct err *err)
{
	size_t cursor = 0;
	int r, more;

	do {
		struct batch b = rtask_batch(rt, t);

		more = files_settle(&rt->ctx, t->msg, table, &b, &cursor, err);
		r = more < 0 ? more : b.n ? rtask_run(rt, t, &b, err) : 0;
		if (r == 0)
			r = files_settled(&rt->ctx, t->msg, &b, err);
	} while (r == 0 && more > 0);
	return r < 0 ? rtask_context(t, err) : 0;
}

/* One after the other: whoever has nothing to do runs nothing. */
int give_settle(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++) {
		struct rtask *t = rt->task[i];

		if (t->msg && !is_zombie(t))
			r = settle(rt, t, image_fd_table(rt->image, t->msg->fd_table), err);
	}
	return r;
}

/* ---- rings ---------------------------------------------------------------------------------- */

static struct rthread *find_thread(struct rtree *rt, pid_t tid, struct rtask **ret)
{
	for (size_t i = 0; i < rt->n; i++) {
		*ret = rt->task[i];
		for (size_t k = 0; (*ret)->msg && k < (*ret)->nthreads; k++)
			if ((*ret)->thread[k].tid == tid)
				return &(*ret)->thread[k];
	}
	return NULL;
}

static struct batch host_batch(void *engine, uint32_t tid)
{
	struct rtree *rt = engine;
	struct rtask *t;
	struct rthread *th = find_thread(rt, (pid_t)tid, &t);

	return lane_batch(&rt->box, th ? th->lane : 0);
}

static int host_run(void *engine, uint32_t tid, const struct batch *b, struct err *err)
{
	struct rtree *rt = engine;
	struct rtask *t;
	struct rthread *th = find_thread(rt, (pid_t)tid, &t);
	int r;

	if (!th)
		return err_set(err, -ESRCH, "there is no thread %u", tid);
	r = lane_run(mailbox_lane(&rt->box, th->lane), b, t->pidfd, th->tid, err);
	return r < 0 ? rtask_context(t, err) : 0;
}

int give_rings(struct rtree *rt, struct err *err)
{
	struct rings_host h = {&rt->ctx, rt, host_batch, host_run};

	return rings_make(&h, err);
}
