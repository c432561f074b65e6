/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One mm's private memory to the image. Chooses the way:
 *   raw into a regular file    the twin writes into the image itself, cpx reads it back for the checksums
 *   all else                   the twin writes into a ring of ours, workers compress out of it
 *   no twin, or one that may not write (RLIMIT_FSIZE)   cpx reads the memory from outside
 */
#include "mem/pages.h"

#include "base/interrupt.h"

int pageout_step(struct pageout *p, uint64_t bytes, struct err *err)
{
	p->done_bytes += bytes;
	if (p->progress)
		p->progress(p->progress_data, p->done_bytes);
	return interrupt_check(err);
}

/* ---- from outside ----------------------------------------------------------------------------- */

int page_copy_out(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct page_source *from,
		  struct err *err)
{
	struct page_sink s;
	int r = page_sink_open(&s, p, mm, has_children, err);

	if (r < 0)
		return r;
	r = page_copy(&s, from, err);
	if (r == 0)
		r = page_sink_finish(&s, err);
	page_sink_close(&s);
	return r;
}

int pageout_frozen(struct pageout *p, const Cpx__Mm *mm, bool has_children, pid_t pid,
		   struct err *err)
{
	struct page_plan plan;
	int r = page_plan_open(&plan, mm, false, pid, true, err);

	if (r < 0)
		return r;
	r = page_copy_out(p, mm, has_children, &plan.source, err);
	page_plan_close(&plan);
	return r;
}

/* ---- through the ring ------------------------------------------------------------------------- */

static int ring_place(void *to, struct push_group *g, struct err *err)
{
	struct page_sink *s = to;
	int r = page_sink_slot(s, &g->slot, err);
	uint64_t at = g->slot * SINK_GROUP;

	for (size_t i = 0; i < g->chunks.n; i++) {
		g->at[i] = at;
		at += g->chunks.chunk[i].bytes;
	}
	return r;
}

static int ring_before(void *to, struct push_group *g, struct err *err)
{
	return page_sink_put(to, g->slot, &g->chunks, err);
}

static int ring_zero(void *to, const struct page_run *run, uint64_t addr, uint64_t len,
		     struct err *err)
{
	return page_sink_zero(to, run, addr, len, err);
}

static const struct push_ops ring_ops = {
	.place = ring_place,
	.before = ring_before,
	.zero = ring_zero,
	.group_bytes = SINK_GROUP,
};

static int push_into_sink(struct page_sink *s, struct page_plan *plan, struct twin *w,
			  struct err *err)
{
	int fd = -1, closed, r = twin_send_fd(w, s->fd, &fd, err);

	if (r < 0)
		return r;
	r = page_push(s->p, w, &plan->source, fd, &ring_ops, s, err);
	if (r < 0)
		return r;
	closed = twin_close_fd(w, fd, err);
	return closed < 0 ? closed : page_sink_finish(s, err);
}

static int push_ring(struct pageout *p, const Cpx__Mm *mm, bool has_children,
		     struct page_plan *plan, struct twin *w, struct err *err)
{
	struct page_sink s;
	int r = page_sink_open(&s, p, mm, has_children, err);

	if (r < 0)
		return r;
	r = push_into_sink(&s, plan, w, err);
	page_sink_close(&s);
	return r;
}

/* ---- choice ----------------------------------------------------------------------------------- */

int pageout_twin(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
		 struct err *err)
{
	uint64_t limit = twin_file_limit(w);
	struct page_plan plan;
	int r;

	if (limit < SINK_SLOTS * SINK_GROUP)
		return pageout_frozen(p, mm, has_children, w->pid, err);
	r = page_plan_open(&plan, mm, false, w->pid, false, err);
	if (r < 0)
		return r;
	if (p->out_fd >= 0 && !mm->parent_mm && limit == UINT64_MAX)
		r = page_direct(p, mm, has_children, &plan, w, err);
	else
		r = push_ring(p, mm, has_children, &plan, w, err);
	page_plan_close(&plan);
	return r;
}

void pageout_release(struct pageout *p)
{
	page_pool_free(p->pool);
	page_hashes_free(p->hashes);
	p->pool = NULL;
	p->hashes = NULL;
}
