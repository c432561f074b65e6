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

static int copy_group(struct page_sink *s, struct page_source *from, const struct page_group *g,
		      struct page_chunks *chunks, struct err *err)
{
	uint8_t *data;
	unsigned slot;
	int r = page_sink_slot(s, &slot, err);

	if (r < 0)
		return r;
	data = page_sink_data(s, slot);
	page_chunks_clear(chunks);
	for (unsigned i = 0; i < g->n && r == 0; i++) {
		r = from->read(from, g->run[i].addr, data, g->run[i].len, err);
		if (r == 0 && page_chunks_add(chunks, g->run[i].addr, g->run[i].len) < 0)
			r = err_nomem(err);
		data += g->run[i].len;
	}
	return r < 0 ? r : page_sink_put(s, slot, chunks, err);
}

int page_copy(struct page_sink *s, struct page_source *from, struct err *err)
{
	_cleanup_free_ struct page_group *g = malloc(sizeof(*g));
	struct page_chunks chunks = {0};
	int r = g ? 0 : err_nomem(err);

	while (r == 0) {
		r = from->next(from, SINK_GROUP, g, err);
		if (r < 0 || !g->n)
			break;
		r = copy_group(s, from, g, &chunks, err);
		if (r == 0)
			r = pageout_step(s->p, g->bytes, err);
	}
	page_chunks_release(&chunks);
	return r;
}
