/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which mappings a task under construction keeps of those that it was cloned with, for the pages that it
 * shares copy-on-write with its parent (or with the stock). Does no system call.
 *
 * Anonymous memory of which nothing is shared is not kept: to fill a page that is there already takes four times as
 * long as to make one (UFFDIO_COPY). A stream does not tell beforehand, so all is kept then.
 */
#include "engine/stock.h"

#include "base/util.h"
#include "mem/pages.h"

typedef const Cpx__Vma *vma_t;

/* A stack that has grown since is made anew as a whole: a part below it would stay a mapping of its own, and
 * pthread_getattr_np(3) would take that for the end of the stack. */
static bool is_same_backing(vma_t a, vma_t b)
{
	if (a->kind != b->kind || a->grows_down != b->grows_down)
		return false;
	if (a->grows_down && a->start != b->start)
		return false;
	switch (a->kind) {
	case CPX__VMA__KIND__ANON:
		return true;
	case CPX__VMA__KIND__FILE_PRIVATE:
	case CPX__VMA__KIND__FILE_SHARED:
		return a->file == b->file && a->start - a->offset == b->start - b->offset;
	case CPX__VMA__KIND__SHM_ANON:
	case CPX__VMA__KIND__SYSV:
		return a->object == b->object && a->start - a->offset == b->start - b->offset;
	default:
		return false;
	}
}

static int keep(struct page_ranges *kept, uint64_t start, uint64_t end)
{
	if (grow(&kept->r, &kept->max, kept->n, sizeof(*kept->r)) < 0)
		return -ENOMEM;
	kept->r[kept->n++] = (struct page_range){start, end - start};
	return 0;
}

static int find_kept(const Cpx__Mm *old, const Cpx__Mm *new, struct page_ranges *kept)
{
	size_t i = 0, k = 0;

	while (i < old->n_vma && k < new->n_vma) {
		vma_t a = old->vma[i], b = new->vma[k];
		uint64_t start = MAX(a->start, b->start), end = MIN(a->end, b->end);

		if (start < end && is_same_backing(a, b) && keep(kept, start, end) < 0)
			return -ENOMEM;
		if (a->end < b->end)
			i++;
		else
			k++;
	}
	return 0;
}

/* ---- what is worth it ------------------------------------------------------------------------- */

/* What the image has for a range that may be kept. */
struct content {
	bool inherits, stores;
};

static void note_piece(const struct page_ranges *kept, struct content *content, const struct chunk_ref *c,
		       const struct piece *p)
{
	const struct page_range *k = page_range_at(kept, p->addr);

	for (; k && k < kept->r + kept->n && k->addr < p->addr + p->len; k++) {
		content[k - kept->r].inherits |= c->kind == CHUNK_INHERIT;
		content[k - kept->r].stores |= c->kind != CHUNK_INHERIT;
	}
}

static void note_content(const struct image *im, uint32_t mm, const struct page_ranges *kept,
			 struct content *content)
{
	size_t first, n = image_chunks_of(im, mm, &first);

	for (size_t i = first; i < first + n; i++)
		for (unsigned k = 0; k < im->chunk[i].n; k++)
			note_piece(kept, content, &im->chunk[i], &im->chunk[i].piece[k]);
}

/* The main stack has marks that no new mapping can get. */
static bool is_worthwhile(const Cpx__Mm *mm, const struct page_range *r, const struct content *c)
{
	vma_t v = vma_at(mm, r->addr);

	return v->kind != CPX__VMA__KIND__ANON || v->grows_down || c->inherits || !c->stores;
}

static int drop_worthless(const struct image *im, const Cpx__Mm *mm, struct page_ranges *kept)
{
	_cleanup_free_ struct content *content = calloc(kept->n + 1, sizeof(*content));
	size_t n = 0;

	if (!content)
		return -ENOMEM;
	note_content(im, mm->id, kept, content);
	for (size_t i = 0; i < kept->n; i++)
		if (is_worthwhile(mm, &kept->r[i], &content[i]))
			kept->r[n++] = kept->r[i];
	kept->n = n;
	return 0;
}

/* The root's: mapped in the coordinator already, just as in the image. */
static int keep_stock(const struct rtree *rt, struct page_ranges *kept)
{
	for (size_t i = 0; rt->stock && i < rt->stock->range.n; i++) {
		const struct page_range *p = &rt->stock->range.r[i];

		if (keep(kept, p->addr, p->addr + p->len) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- what the engine calls -------------------------------------------------------------------- */

int keep_mappings(const struct rtree *rt, struct rtask *t, const Cpx__Mm *old, struct err *err)
{
	int r = old ? find_kept(old, t->mm, &t->kept) : keep_stock(rt, &t->kept);

	if (r == 0 && old && !rt->stream)
		r = drop_worthless(rt->image, t->mm, &t->kept);
	return r < 0 ? err_nomem(err) : 0;
}

bool keep_is_fresh(const struct rtask *t, uint64_t addr, uint64_t *end)
{
	const struct page_range *k = page_range_at(&t->kept, addr);
	bool is_kept = k && k->addr <= addr;
	vma_t v = vma_at(t->mm, addr);

	if (k)
		*end = MIN(*end, is_kept ? k->addr + k->len : k->addr);
	return v && v->kind == CPX__VMA__KIND__ANON && !is_kept;
}
