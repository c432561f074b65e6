/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What has changed in an address space since an image of it was made, by write tracking (track.c) that goes on from
 * one image to the next. What may have changed is *owed* to the next image, until that is complete: an image that
 * fails loses nothing.
 *
 * A page is named as "before" only if it is protected, and so has not been written to since the freeze of that
 * image. All else that is populated is stored. That goes for private anonymous memory. Private
 * file mappings are not watched (see track.c), nor is what the kernel does not let us watch: what is populated of it
 * is compared with the image.
 */
#include "mem/pages.h"

#include "base/log.h"
#include "proc/proc.h"

#include <fcntl.h>

/* A twin costs as much as some 3 % of the memory copied aside; and copies aside take memory. */
#define ASIDE_SHARE 32
#define ASIDE_LEAST (1UL << 20)
#define ASIDE_MOST  (256UL << 20)

struct tracked {
	struct track *track;
	uint32_t stored; /* its Mm in the last image; 0: there is none, or it may have changed unseen since */
	struct page_ranges owed;
	bool is_advanced; /* in the freeze at hand: what changes from now on will be seen */
	/* of the freeze at hand */
	struct page_ranges watched, unwatched; /* whole mappings */
	struct page_ranges sure;	       /* as in the last image */
	struct page_ranges changed, fresh;     /* populated: to be stored, to be compared */
	struct aside *aside_changed, *aside_fresh;
	bool wants_twin;
};

/* ---- beginning, end ---- */

int tracked_new(pid_t pid, int uffd, struct tracked **ret, struct err *err)
{
	struct tracked *d = calloc(1, sizeof(*d));
	int r;

	if (!d) {
		close(uffd);
		return err_nomem(err);
	}
	r = track_new(pid, uffd, 0, &d->track, err);
	if (r < 0) {
		free(d);
		return r;
	}
	*ret = d;
	return 0;
}

static void forget_freeze(struct tracked *d)
{
	page_ranges_release(&d->watched);
	page_ranges_release(&d->unwatched);
	page_ranges_release(&d->sure);
	page_ranges_release(&d->changed);
	page_ranges_release(&d->fresh);
	aside_free(TAKE_PTR(d->aside_changed));
	aside_free(TAKE_PTR(d->aside_fresh));
	d->is_advanced = d->wants_twin = false;
}

void tracked_free(struct tracked *d)
{
	if (!d)
		return;
	forget_freeze(d);
	page_ranges_release(&d->owed);
	track_free(d->track);
	free(d);
}

struct track *tracked_track(const struct tracked *d)
{
	return d->track;
}

pid_t tracked_pid(const struct tracked *d)
{
	return track_pid(d->track);
}

bool tracked_watches(const struct tracked *d, uint64_t start, uint64_t end)
{
	return track_owns(d->track, start, end);
}

uint32_t tracked_stored(const struct tracked *d)
{
	return d->stored;
}

bool tracked_is_alive(struct tracked *d)
{
	struct track *t = d->track;
	struct page_ranges none = {0};
	int r = track_open(t, NULL) < 0 ? -ENOENT : -EPERM;

	for (size_t i = 0; i < t->span.n && r == -EPERM; i++)
		r = track_find_open(t, t->span.r[i].addr, t->span.r[i].addr + CPX_PAGE_SIZE, &none, NULL);
	page_ranges_release(&none);
	return r == 0;
}

/* ---- what may have changed ---- */

static int owe(struct tracked *d, const struct page_ranges *more, struct err *err)
{
	struct page_ranges all = {0};
	int r = page_ranges_union(&d->owed, more, &all);

	if (r < 0) {
		page_ranges_release(&all);
		return err_nomem(err);
	}
	page_ranges_release(&d->owed);
	d->owed = all;
	return 0;
}

/* Owed first: whatever becomes of the rest, nothing is lost. */
static int owe_and_protect(struct tracked *d, struct err *err)
{
	int r = owe(d, &d->track->open, err);

	return r < 0 ? r : track_protect_open(d->track, err);
}

int tracked_mark(struct tracked *d, struct err *err)
{
	struct track *t = d->track;
	int r = track_open(t, err);

	page_ranges_release(&t->open);
	for (size_t i = 0; i < t->span.n && r == 0; i++) {
		const struct page_range *s = &t->span.r[i];

		r = track_find_open(t, s->addr, s->addr + s->len, &t->open, err);
		/* What is not watched any more is looked at in the freeze. */
		r = r == -EPERM ? 0 : r;
	}
	return r < 0 ? r : owe_and_protect(d, err);
}

/* ---- frozen: going on ---- */

static bool is_watchable(const Cpx__Vma *v)
{
	return v->kind == CPX__VMA__KIND__ANON && !vma_is_aside(v) && !(v->vm_flags & VMA_DROPPABLE);
}

static bool is_comparable(const Cpx__Vma *v)
{
	return is_watchable(v) || (v->kind == CPX__VMA__KIND__FILE_PRIVATE && !vma_is_aside(v));
}

static bool is_ours(const struct track *t, const Cpx__Vma *v)
{
	const struct page_range *r = page_range_at(&t->span, v->start);

	return r && r->addr <= v->start && v->end <= r->addr + r->len;
}

/* -EPERM cannot be, as all of it has just been registered: then it is treated as not watched. */
static int look_at(struct tracked *d, uint64_t start, uint64_t end, struct err *err)
{
	struct page_ranges found = {0};
	int r = track_find_open(d->track, start, end, &found, err);

	if (r == -EPERM)
		r = page_ranges_add(&d->unwatched, start, end);
	else if (r == 0)
		r = page_ranges_add(&d->watched, start, end);
	for (size_t i = 0; i < found.n && r == 0; i++)
		r = page_ranges_add(&d->track->open, found.r[i].addr, found.r[i].addr + found.r[i].len);
	page_ranges_release(&found);
	return r == -ENOMEM ? err_nomem(err) : r;
}

/* Neighbours in one call. */
static int look_at_all(struct tracked *d, const Cpx__Mm *mm, struct err *err)
{
	const struct track *t = d->track;
	int r = 0;

	for (size_t i = 0, k; i < mm->n_vma && r == 0; i = k) {
		const Cpx__Vma *v = mm->vma[i];

		k = i + 1;
		if (is_watchable(v) && is_ours(t, v)) {
			while (k < mm->n_vma && mm->vma[k]->start == mm->vma[k - 1]->end &&
			       is_watchable(mm->vma[k]) && is_ours(t, mm->vma[k]))
				k++;
			r = look_at(d, v->start, mm->vma[k - 1]->end, err);
		} else if (is_comparable(v) && page_ranges_add(&d->unwatched, v->start, v->end) < 0) {
			r = err_nomem(err);
		}
	}
	return r;
}

int tracked_advance(struct tracked *d, const Cpx__Mm *mm, struct err *err)
{
	int r;

	forget_freeze(d);
	page_ranges_release(&d->track->open);
	r = track_open(d->track, err);
	if (r == 0)
		r = track_watch_all(d->track, err);
	if (r == 0)
		r = look_at_all(d, mm, err);
	if (r == 0)
		r = owe_and_protect(d, err);
	d->is_advanced = r == 0;
	return r;
}

void tracked_settle(struct tracked *d, uint32_t mm)
{
	d->stored = d->is_advanced ? mm : 0;
	if (d->is_advanced)
		page_ranges_release(&d->owed);
	forget_freeze(d);
}

/* ---- ranges as a source ---- */

/* A twin asks for runs of one mapping each, to read them and to give them back. */
static struct range_source source_of(const struct tracked *d, const Cpx__Mm *mm,
				     const struct page_ranges *ranges)
{
	struct range_source s = range_source(ranges, d->track->mem_fd);

	s.mm = mm;
	return s;
}

/* ---- frozen: taking what changed ---- */

static int select_in(struct tracked *d, const struct page_ranges *in, struct page_ranges *out,
		     struct page_ranges *guards, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < in->n && r == 0; i++)
		r = pages_select_apart(d->track->pagemap_fd, in->r[i].addr, in->r[i].addr + in->r[i].len,
				       out, guards, err);
	return r;
}

static int sort(struct tracked *d, struct page_ranges *guards, struct err *err)
{
	struct page_ranges may = {0};
	int r = page_ranges_common(&d->watched, &d->owed, &may);

	if (r == 0)
		r = page_ranges_minus(&d->watched, &d->owed, &d->sure);
	if (r < 0)
		err_nomem(err);
	else
		r = select_in(d, &may, &d->changed, guards, err);
	page_ranges_release(&may);
	return r < 0 ? r : select_in(d, &d->unwatched, &d->fresh, guards, err);
}

static bool is_much(const struct tracked *d)
{
	uint64_t bytes = d->changed.bytes + d->fresh.bytes;

	return bytes > ASIDE_MOST ||
	       (bytes > ASIDE_LEAST && bytes > (d->sure.bytes + bytes) / ASIDE_SHARE);
}

static int copy_aside(const struct tracked *d, const Cpx__Mm *mm, const struct page_ranges *p,
		      struct aside **ret, struct err *err)
{
	struct range_source s = source_of(d, mm, p);

	return p->n ? aside_take(&s.source, ret, err) : 0;
}

int tracked_take(struct tracked *d, Cpx__Mm *mm, struct err *err)
{
	struct page_ranges guards = {0};
	int r = sort(d, &guards, err);

	d->wants_twin = is_much(d);
	log_info("task %d: %llu KiB were written to, %llu KiB are not watched, %llu KiB are as before",
		 tracked_pid(d), (unsigned long long)d->changed.bytes >> 10,
		 (unsigned long long)d->fresh.bytes >> 10, (unsigned long long)d->sure.bytes >> 10);
	if (r == 0 && !d->wants_twin)
		r = copy_aside(d, mm, &d->changed, &d->aside_changed, err);
	if (r == 0 && !d->wants_twin)
		r = copy_aside(d, mm, &d->fresh, &d->aside_fresh, err);
	if (r == 0)
		r = guards_add(mm, &guards, err);
	page_ranges_release(&guards);
	return r;
}

bool tracked_wants_twin(const struct tracked *d)
{
	return d->wants_twin;
}

/* ---- writing it ---- */

/* The original runs on; only the twin is as it was. */
static int write_twin(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct range_source *s, struct twin *w,
		      struct err *err)
{
	_cleanup_close_ int dir = -1, mem = -1;
	int r = proc_open(-1, w->pid, 0, &dir, err);

	if (r == 0)
		r = proc_open_file(dir, "mem", O_RDONLY, &mem, err);
	s->mem_fd = mem;
	return r < 0 ? r : pageout_twin_source(p, mm, has_children, w, &s->source, err);
}

static int write_ranges(struct tracked *d, struct pageout *p, const Cpx__Mm *mm, bool has_children,
			const struct page_ranges *ranges, struct aside *aside, struct twin *w, struct err *err)
{
	struct range_source s = source_of(d, mm, ranges);

	if (aside)
		return aside_write_all(aside, p, mm, has_children, err);
	if (!ranges->n)
		return 0;
	return w ? write_twin(p, mm, has_children, &s, w, err)
		 : page_copy_out(p, mm, has_children, &s.source, err);
}

static int write_before(const struct tracked *d, struct pageout *p, uint32_t mm, struct err *err)
{
	struct page_notes notes = {.kind = CHUNK_BEFORE};
	struct image_lookup *had = NULL;
	int r = image_lookup_new(p->before, d->stored, &had, err);

	/* What that image has nothing of is zero. */
	for (size_t i = 0; i < d->sure.n && r == 0; i++) {
		uint64_t at = d->sure.r[i].addr, end = at + d->sure.r[i].len, stop;

		for (; r == 0 && image_lookup_next(had, &at, &stop) && at < end; at = stop) {
			stop = MIN(stop, end);
			r = page_notes_add(&notes, p, mm, at, stop - at, err);
			p->stats.unchanged_pages += (stop - at) / CPX_PAGE_SIZE;
		}
	}
	image_lookup_free(had);
	return r < 0 ? r : page_notes_flush(&notes, p, mm, err);
}

/* What was written to is not compared: to read the parent costs more than what it would save. */
int tracked_write(struct tracked *d, struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
		  struct err *err)
{
	const struct image *before = p->before;
	int r;

	p->before = NULL;
	r = write_ranges(d, p, mm, has_children, &d->changed, d->aside_changed, w, err);
	p->before = before;
	if (r == 0)
		r = write_ranges(d, p, mm, false, &d->fresh, d->aside_fresh, w, err);
	aside_free(TAKE_PTR(d->aside_changed));
	aside_free(TAKE_PTR(d->aside_fresh));
	return r < 0 ? r : write_before(d, p, mm->id, err);
}
