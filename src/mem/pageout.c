/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One mm's private memory to the image. Chooses the way:
 *   raw into a regular file    the twin writes into the image itself, cpx reads it back for the
 * checksums all else                   the twin writes into a ring of ours, workers compress out of
 * it no twin, or one that may not write (RLIMIT_FSIZE)   cpx reads the memory from outside
 */
#include "mem/pages.h"

#include "base/interrupt.h"
#include "base/log.h"

int pageout_step(struct pageout *p, uint64_t bytes, struct err *err)
{
	p->done_bytes += bytes;
	if (p->progress)
		p->progress(p->progress_data, p->done_bytes);
	return interrupt_check(err);
}

/* ---- from outside ---- */

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

/* ---- through the ring ---- */

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

static const struct push_ops ring_ops = {
	.place = ring_place,
	.before = ring_before,
	.group_bytes = SINK_GROUP,
	.gives_back = true,
};

static int push_ring(struct pageout *p, const Cpx__Mm *mm, bool has_children,
		     struct page_source *from, struct twin *w, int remote_fd, struct err *err)
{
	struct page_sink s;
	int r = page_sink_open(&s, p, mm, has_children, err);

	if (r < 0)
		return r;
	r = page_push(p, w, from, remote_fd, &ring_ops, &s, err);
	if (r == 0)
		r = page_sink_finish(&s, err);
	page_sink_close(&s);
	return r;
}

/* ---- choice ---- */

struct way {
	bool is_direct;
	int remote_fd; /* of the image or of the ring; -1: the twin cannot push */
};

static int choose_way(struct pageout *p, bool may_be_direct, struct twin *w, struct way *ret, struct err *err)
{
	uint64_t limit = twin_file_limit(w);
	int r;

	ret->remote_fd = -1;
	ret->is_direct = may_be_direct && p->out_fd >= 0 && limit == UINT64_MAX;
	if (limit < SINK_SLOTS * SINK_GROUP)
		return 0;
	if (!ret->is_direct && !p->pool) {
		r = page_pool_new(p, &p->pool, err);
		if (r < 0)
			return r;
	}
	r = twin_send_fd(w, ret->is_direct ? p->out_fd : page_pool_fd(p->pool), &ret->remote_fd,
			 err);
	if (r == -ESRCH)
		return r;
	if (r < 0)
		log_info("memory is read from outside: %s", err ? err->msg : strerror(-r));
	return 0;
}

int pageout_twin(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
		 struct err *err)
{
	struct page_plan plan;
	struct way way;
	int r = choose_way(p, !mm->parent_mm && !mm->before_mm, w, &way, err);

	if (r < 0)
		return r;
	if (way.remote_fd < 0)
		return pageout_frozen(p, mm, has_children, w->pid, err);
	r = page_plan_open(&plan, mm, false, w->pid, false, err);
	if (r < 0)
		return r;
	if (way.is_direct)
		r = page_direct(p, mm, has_children, &plan, w, way.remote_fd, err);
	else
		r = push_ring(p, mm, has_children, &plan.source, w, way.remote_fd, err);
	page_plan_close(&plan);
	return r;
}

/* One that may not write is read. */
int pageout_twin_source(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
			struct page_source *from, struct err *err)
{
	struct way way;
	int r = choose_way(p, false, w, &way, err);

	if (r < 0)
		return r;
	return way.remote_fd < 0 ? page_copy_out(p, mm, has_children, from, err)
				 : push_ring(p, mm, has_children, from, w, way.remote_fd, err);
}

void pageout_yield(struct pageout *p)
{
	p->is_background = true;
	if (p->pool)
		page_pool_yield(p->pool);
}

void pageout_release(struct pageout *p)
{
	page_pool_free(p->pool);
	page_hashes_free(p->hashes);
	p->pool = NULL;
	p->hashes = NULL;
}
