/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sets of pages as ascending ranges, and what two of them make. Pure code. */
#include "mem/pages.h"

/* One that is walked through boundary by boundary. */
struct walker {
	const struct page_ranges *p;
	size_t i;
};

static bool is_in(const struct walker *w, uint64_t at)
{
	return w->i < w->p->n && w->p->r[w->i].addr <= at;
}

/* Where is_in() changes next, or the range does. */
static uint64_t boundary(const struct walker *w, uint64_t at)
{
	const struct page_range *r = w->i < w->p->n ? &w->p->r[w->i] : NULL;

	if (!r)
		return UINT64_MAX;
	return r->addr > at ? r->addr : r->addr + r->len;
}

static void go_to(struct walker *w, uint64_t at)
{
	while (w->i < w->p->n && w->p->r[w->i].addr + w->p->r[w->i].len <= at)
		w->i++;
}

static int combine(const struct page_ranges *a, const struct page_ranges *b,
		   bool (*keeps)(bool in_a, bool in_b), struct page_ranges *out)
{
	struct walker wa = {a, 0}, wb = {b, 0};
	int r = 0;

	for (uint64_t at = 0, next; at != UINT64_MAX && r == 0; at = next) {
		next = MIN(boundary(&wa, at), boundary(&wb, at));
		if (next != UINT64_MAX && keeps(is_in(&wa, at), is_in(&wb, at)))
			r = page_ranges_add(out, at, next);
		go_to(&wa, next);
		go_to(&wb, next);
	}
	return r;
}

static bool either(bool a, bool b)
{
	return a || b;
}

static bool both(bool a, bool b)
{
	return a && b;
}

static bool first_alone(bool a, bool b)
{
	return a && !b;
}

int page_ranges_union(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out)
{
	return combine(a, b, either, out);
}

int page_ranges_common(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out)
{
	return combine(a, b, both, out);
}

int page_ranges_minus(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out)
{
	return combine(a, b, first_alone, out);
}
