/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What write tracking has found, to the image: rounds while the task runs, and the rest when it is
 * frozen. Reads /proc/PID/mem, which leaves pages shared that fork(2) has shared, and unlike a twin
 * costs the task nothing but memory bandwidth.
 *
 * A page is named as "before" only if it is protected, that is unchanged since it was protected last,
 * and was stored after that. All else that is populated is copied, needlessly at worst.
 */
#include "mem/pages.h"

/* ---- rounds ---- */

static int forget_lost(struct track *t, const struct page_ranges *lost, struct err *err)
{
	for (size_t i = 0; i < lost->n; i++)
		if (page_known_set(&t->known, lost->r[i].addr, lost->r[i].len, PAGE_UNKNOWN) < 0)
			return err_nomem(err);
	return 0;
}

int track_store(struct track *t, struct pageout *p, struct err *err)
{
	Cpx__Mm early = CPX__MM__INIT;
	struct page_ranges lost = {0};
	struct range_source s = range_source(&t->dirty, t->mem_fd);
	int r;

	s.lost = &lost;
	early.id = t->early;
	p->known = &t->known;
	r = page_copy_out(p, &early, false, &s.source, err);
	p->known = NULL;
	if (r == 0)
		r = forget_lost(t, &lost, err);
	page_ranges_release(&lost);
	return r;
}

/* ---- frozen: what may have changed ---- */

static bool is_watchable(const Cpx__Vma *v)
{
	return v->kind == CPX__VMA__KIND__ANON && !vma_is_aside(v) && !(v->vm_flags & VMA_DROPPABLE);
}

static bool is_wanted(const Cpx__Vma *v)
{
	return (v->kind == CPX__VMA__KIND__FILE_PRIVATE && !vma_is_aside(v)) || is_watchable(v);
}

/* Not open, but stored? Then as before; not stored: open after all. Of a page that is zero and anonymous
 * nothing is said. */
static int sort_closed(struct track *t, uint64_t addr, uint64_t end, struct page_ranges *open)
{
	int r = 0;

	for (uint64_t next; addr < end && r == 0; addr = next) {
		switch (page_known_get(&t->known, addr, end, &next)) {
		case PAGE_STORED:
			r = page_ranges_add(&t->before, addr, next);
			break;
		case PAGE_UNKNOWN:
			r = page_ranges_add(open, addr, next);
			break;
		case PAGE_ZERO:
			break;
		}
	}
	return r;
}

static int sort_all(struct track *t, uint64_t start, uint64_t end, const struct page_ranges *found)
{
	int r = 0;

	for (size_t i = 0; i < found->n && r == 0; i++) {
		const struct page_range *f = &found->r[i];

		r = sort_closed(t, start, f->addr, &t->open);
		if (r == 0)
			r = page_ranges_add(&t->open, f->addr, f->addr + f->len);
		start = f->addr + f->len;
	}
	return r < 0 ? r : sort_closed(t, start, end, &t->open);
}

static int look_at(struct track *t, uint64_t start, uint64_t end, struct err *err)
{
	struct page_ranges found = {0};
	int r = track_find_open(t, start, end, &found, err);

	if (r == 0 && sort_all(t, start, end, &found) < 0)
		r = err_nomem(err);
	page_ranges_release(&found);
	return r;
}

/* Neighbours in one call. If they are not all watched, one by one. */
static int look_at_group(struct track *t, const Cpx__Mm *mm, size_t first, size_t end,
			 struct err *err)
{
	int r = look_at(t, mm->vma[first]->start, mm->vma[end - 1]->end, err);

	if (r != -EPERM)
		return r;
	r = 0;
	for (size_t i = first; i < end && r == 0; i++) {
		r = look_at(t, mm->vma[i]->start, mm->vma[i]->end, err);
		if (r == -EPERM)
			r = page_ranges_add(&t->open, mm->vma[i]->start, mm->vma[i]->end) < 0
				    ? err_nomem(err)
				    : 0;
	}
	return r;
}

static int look_at_all(struct track *t, const Cpx__Mm *mm, struct err *err)
{
	int r = 0;

	for (size_t i = 0, k; i < mm->n_vma && r == 0; i = k) {
		k = i + 1;
		if (!is_watchable(mm->vma[i])) {
			if (is_wanted(mm->vma[i]) &&
			    page_ranges_add(&t->open, mm->vma[i]->start, mm->vma[i]->end) < 0)
				r = err_nomem(err);
			continue;
		}
		while (k < mm->n_vma && is_watchable(mm->vma[k]) &&
		       mm->vma[k]->start == mm->vma[k - 1]->end)
			k++;
		r = look_at_group(t, mm, i, k, err);
	}
	return r;
}

/* ---- frozen: taking it ---- */

static int take_open(struct track *t, Cpx__Mm *mm, struct err *err)
{
	struct page_ranges wanted = {0}, guards = {0};
	struct range_source s = range_source(&wanted, t->mem_fd);
	int r = 0;

	for (size_t i = 0; i < t->open.n && r == 0; i++)
		r = pages_select_apart(t->pagemap_fd, t->open.r[i].addr,
				       t->open.r[i].addr + t->open.r[i].len, &wanted, &guards, err);
	if (r == 0 && wanted.n)
		r = aside_take(&s.source, &t->aside, err);
	if (r == 0)
		r = guards_add(mm, &guards, err);
	t->taken_bytes = wanted.bytes;
	page_ranges_release(&wanted);
	page_ranges_release(&guards);
	return r;
}

int track_take(struct track *t, Cpx__Mm *mm, bool again, struct err *err)
{
	int r;

	aside_free(TAKE_PTR(t->aside));
	page_ranges_release(&t->open);
	page_ranges_release(&t->before);
	r = track_open(t, err);
	if (r == 0)
		r = look_at_all(t, mm, err);
	if (r == 0)
		r = take_open(t, mm, err);
	return r == 0 && again ? track_protect_open(t, err) : r;
}

uint64_t track_taken_bytes(const struct track *t)
{
	return t->taken_bytes;
}

/* ---- afterwards ---- */

static int write_before(const struct track *t, struct pageout *p, uint32_t mm, struct err *err)
{
	struct page_notes notes = {.kind = CHUNK_BEFORE};
	int r = 0;

	for (size_t i = 0; i < t->before.n && r == 0; i++)
		r = page_notes_add(&notes, p, mm, t->before.r[i].addr, t->before.r[i].len, err);
	p->stats.before_pages += t->before.bytes / CPX_PAGE_SIZE;
	return r < 0 ? r : page_notes_flush(&notes, p, mm, err);
}

int track_write(struct track *t, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		struct err *err)
{
	int r = 0;

	p->known = &t->known;
	if (t->aside)
		r = aside_write_all(t->aside, p, mm, has_children, err);
	p->known = NULL;
	aside_free(TAKE_PTR(t->aside));
	return r < 0 ? r : write_before(t, p, mm->id, err);
}
