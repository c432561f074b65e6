/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages that cpx reads itself (from a frozen task, or out of memory copied aside) to the image. */
#include "mem/pages.h"

bool page_is_zero(const void *page)
{
	const uint64_t *w = page;
	uint64_t any = w[0];

	/* Most pages with data show it in their first word. */
	for (size_t i = 0; !any && i < CPX_PAGE_SIZE / sizeof(*w); i += 8)
		any = w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] |
		      w[i + 7];
	return !any;
}

struct copy {
	struct page_sink *sink;
	struct page_chunks chunks;
	uint8_t *data; /* the slot */
	size_t used;
};

static int keep(struct copy *c, uint8_t *page, uint64_t addr)
{
	if (c->data + c->used != page)
		memcpy(c->data + c->used, page, CPX_PAGE_SIZE);
	c->used += CPX_PAGE_SIZE;
	return page_chunks_add(&c->chunks, addr, CPX_PAGE_SIZE);
}

static int copy_run(struct copy *c, struct page_source *from, const struct page_run *run,
		    struct err *err)
{
	uint8_t *data = c->data + c->used;
	int r = from->read(from, run->addr, data, run->len, err);

	for (uint64_t at = 0; at < run->len && r == 0; at += CPX_PAGE_SIZE) {
		if (page_is_zero(data + at))
			r = page_sink_zero(c->sink, run, run->addr + at, CPX_PAGE_SIZE, err);
		else if (keep(c, data + at, run->addr + at) < 0)
			r = err_nomem(err);
	}
	return r;
}

static int copy_group(struct copy *c, struct page_source *from, const struct page_group *g,
		      struct err *err)
{
	unsigned slot;
	int r = page_sink_slot(c->sink, &slot, err);

	if (r < 0)
		return r;
	c->data = page_sink_data(c->sink, slot);
	c->used = 0;
	page_chunks_clear(&c->chunks);
	for (unsigned i = 0; i < g->n && r == 0; i++)
		r = copy_run(c, from, &g->run[i], err);
	return r < 0 ? r : page_sink_put(c->sink, slot, &c->chunks, err);
}

int page_copy(struct page_sink *s, struct page_source *from, struct err *err)
{
	_cleanup_free_ struct page_group *g = malloc(sizeof(*g));
	struct copy c = {.sink = s};
	int r = g ? 0 : err_nomem(err);

	while (r == 0) {
		r = from->next(from, SINK_GROUP, g, err);
		if (r < 0 || !g->n)
			break;
		r = copy_group(&c, from, g, err);
		if (r == 0)
			r = pageout_step(s->p, g->bytes, err);
	}
	page_chunks_release(&c.chunks);
	return r;
}
