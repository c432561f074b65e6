/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the memory of an image holds at an address, through all its layers: for a dump that stores only
 * what is different. Pages are compared byte by byte; a chunk is read as a whole, with its checksum.
 */
#include "image/layers.h"
#include "base/util.h"

struct image_lookup {
	struct spans spans;	  /* by address */
	struct image_lookup *up; /* of the parent_mm, for inherited pages; NULL: none */
};

void image_lookup_free(struct image_lookup *l)
{
	while (l) {
		struct image_lookup *up = l->up;

		free(l->spans.s);
		free(l);
		l = up;
	}
}

static int add_owner(struct image_lookup *l, const struct image *im, uint32_t owner, bool *ret_inherits)
{
	for (size_t i = 0; i < im->nchunks; i++) {
		const struct chunk_ref *c = &im->chunk[i];

		if (c->object != owner)
			continue;
		*ret_inherits |= c->kind == CHUNK_INHERIT;
		for (unsigned k = 0; k < c->n; k++) {
			const struct piece *p = &c->piece[k];

			if (spans_add(&l->spans, &(struct span){p->addr, p->len, c, p->from, 0}) < 0)
				return -ENOMEM;
		}
	}
	spans_sort(&l->spans);
	return 0;
}

int image_lookup_new(const struct image *im, uint32_t owner, struct image_lookup **ret,
		     struct err *err)
{
	struct image_lookup **at = ret;

	*ret = NULL;
	while (owner) {
		const Cpx__Mm *mm = image_mm(im, owner);
		bool inherits = false;

		*at = calloc(1, sizeof(**at));
		if (!*at || add_owner(*at, im, owner, &inherits) < 0) {
			image_lookup_free(TAKE_PTR(*ret));
			return err_nomem(err);
		}
		at = &(*at)->up;
		owner = inherits && mm ? mm->parent_mm : 0; /* parents come before their children */
	}
	return 0;
}

static const struct span *find(const struct image_lookup *l, uint64_t addr)
{
	size_t lo = 0, hi = l->spans.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->spans.s[mid].addr + l->spans.s[mid].len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->spans.n && l->spans.s[lo].addr <= addr ? &l->spans.s[lo] : NULL;
}

static int load(struct image_cursor *c, const struct chunk_ref *chunk, struct err *err)
{
	int r;

	if (c->chunk == chunk)
		return 0;
	c->chunk = NULL;
	if (!c->data)
		c->data = malloc(CHUNK_MAX);
	if (!c->data)
		return err_nomem(err);
	r = image_read_chunk(chunk, c->data, err);
	if (r < 0)
		return r;
	c->chunk = chunk;
	return 0;
}

int image_lookup_compare(const struct image_lookup *l, struct image_cursor *c, uint64_t addr,
			 const void *page, struct err *err)
{
	const struct span *s = find(l, addr);
	int r;

	while (s && s->c->kind == CHUNK_INHERIT) {
		l = l->up;
		s = l ? find(l, addr) : NULL;
	}
	if (!s || s->c->kind != CHUNK_DATA)
		return 0;
	r = load(c, s->c, err);
	if (r < 0)
		return r;
	return memcmp(c->data + s->from + (addr - s->addr), page, CPX_PAGE_SIZE) == 0;
}

void image_cursor_release(struct image_cursor *c)
{
	free(c->data);
	*c = (struct image_cursor){0};
}
