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

static bool is_hidden(const struct rtask *parent, uint64_t addr)
{
	const struct page_range *r = page_range_at(&parent->hidden, addr);

	return r && r->addr <= addr;
}

static int drop_worthless(const struct image *im, const struct rtask *t, struct page_ranges *kept)
{
	_cleanup_free_ struct content *content = calloc(kept->n + 1, sizeof(*content));
	size_t n = 0;

	if (!content)
		return -ENOMEM;
	note_content(im, t->mm->id, kept, content);
	for (size_t i = 0; i < kept->n; i++)
		if (!is_hidden(t->parent, kept->r[i].addr) && is_worthwhile(t->mm, &kept->r[i], &content[i]))
			kept->r[n++] = kept->r[i];
	kept->n = n;
	return 0;
}

/* ---- what need not even be cloned --------------------------------------------------------------- */

#define HIDE_WORTH (256UL << 10) /* populated bytes of a mapping */

static uint64_t populated(const struct page_ranges *pages, vma_t v)
{
	const struct page_range *r = page_range_at(pages, v->start);
	uint64_t sum = 0;

	for (; r && r < pages->r + pages->n && r->addr < v->end; r++)
		sum += MIN(r->addr + r->len, v->end) - MAX(r->addr, v->start);
	return sum;
}

static int add_candidates(const struct rtask *t, struct page_ranges *to)
{
	int r = 0;

	for (size_t i = 0; i < t->mm->n_vma && r == 0; i++) {
		vma_t v = t->mm->vma[i];

		if (v->kind == CPX__VMA__KIND__ANON && !v->grows_down &&
		    populated(&t->mm_owner->pages, v) >= HIDE_WORTH)
			r = keep(to, v->start, v->end);
	}
	return r;
}

/* Of those, what a child inherits pages of. */
static void note_children(const struct image *im, const struct rtask *t, struct content *content)
{
	for (size_t i = 0; i < im->ntasks && t->hidden.n; i++)
		if (im->task[i]->ppid == (uint32_t)t->pid && im->task[i]->mm != t->mm->id)
			note_content(im, im->task[i]->mm, &t->hidden, content);
}

int keep_choose_hidden(const struct rtree *rt, struct rtask *t, struct err *err)
{
	_cleanup_free_ struct content *content = NULL;
	size_t n = 0;

	if (rt->stream)
		return 0;
	if (add_candidates(t, &t->hidden) < 0 || !(content = calloc(t->hidden.n + 1, sizeof(*content))))
		return err_nomem(err);
	note_children(rt->image, t, content);
	for (size_t i = 0; i < t->hidden.n; i++)
		if (!content[i].inherits)
			t->hidden.r[n++] = t->hidden.r[i];
	t->hidden.n = n;
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
		r = drop_worthless(rt->image, t, &t->kept);
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
