/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stock of memory that clones share (stock.h): mmap(2) with MAP_FIXED_NOREPLACE at the addresses
 * of the image, userfaultfd(2) of our own for the fill.
 *
 * Left out, and filled in each clone: private file mappings, the stack (which may have to grow where
 * our own is), huge pages, and what lies where this process has mappings of its own: with addresses
 * at random hardly ever anything, without (setarch -R) a few MiB.
 */
#include "engine/stock.h"

#include "base/kabi.h"
#include "base/util.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MARGIN	     (1UL << 20) /* around our own mappings */
#define STACK_MARGIN (64UL << 20) /* below our stack, which grows */

enum { OUTSIDE, INSIDE };

static int add_range(struct page_ranges *l, uint64_t start, uint64_t end, struct err *err)
{
	if (grow(&l->r, &l->max, l->n, sizeof(*l->r)) < 0)
		return err_nomem(err);
	l->r[l->n++] = (struct page_range){start, end - start};
	return 0;
}

/* ---- where ---------------------------------------------------------------------------------- */

static bool is_suitable(const Cpx__Vma *v)
{
	return v->kind == CPX__VMA__KIND__ANON && !v->grows_down && !(v->vm_flags & VMA_DROPPABLE);
}

static int add_populated(const struct image *im, uint32_t object, struct page_ranges *ret, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < im->nchunks; i++) {
		const struct chunk_ref *c = &im->chunk[i];

		for (unsigned k = 0; k < c->n && c->object == object && r == 0; k++)
			r = add_range(ret, c->piece[k].addr, c->piece[k].addr + c->piece[k].len, err);
	}
	return r;
}

static int by_addr(const void *a, const void *b)
{
	const struct page_range *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static bool has_pages(const struct page_ranges *pages, const Cpx__Vma *v)
{
	const struct page_range *r = page_range_at(pages, v->start);

	return r && r->addr < v->end;
}

static uint64_t margin_below(const struct proc_vma *v)
{
	return strcmp(v->path, "[stack]") == 0 ? STACK_MARGIN : MARGIN;
}

/* Of the image's mapping what is not ours already. */
static int add_free(struct stock *s, const struct proc_vmas *own, const Cpx__Vma *v, struct err *err)
{
	uint64_t at = v->start;
	int r = 0;

	for (size_t i = 0; i < own->n && r == 0; i++) {
		uint64_t start = own->vma[i].start - MIN(own->vma[i].start, margin_below(&own->vma[i]));
		uint64_t end = own->vma[i].end + MARGIN;

		if (end <= at || start >= v->end)
			continue;
		if (start > at)
			r = add_range(&s->range, at, start, err);
		at = end;
	}
	return r < 0 || at >= v->end ? r : add_range(&s->range, at, v->end, err);
}

static int find_ranges(struct stock *s, const Cpx__Mm *mm, const struct page_ranges *pages, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_vmas own = {0};
	int r = proc_open(-1, getpid(), 0, &dir, err);

	if (r == 0)
		r = proc_maps(dir, &own, err);
	for (size_t i = 0; i < mm->n_vma && r == 0; i++)
		if (is_suitable(mm->vma[i]) && has_pages(pages, mm->vma[i]))
			r = add_free(s, &own, mm->vma[i], err);
	proc_vmas_release(&own);
	return r;
}

/* ---- mapping -------------------------------------------------------------------------------- */

static bool map_range(const struct page_range *p, const Cpx__Vma *v)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
		    (v->vm_flags & VMA_NORESERVE ? MAP_NORESERVE : 0);
	void *at = mmap((void *)p->addr, p->len, v->prot, flags, -1, 0);

	if (at != MAP_FAILED && (uint64_t)at != p->addr) /* a kernel that takes the address as a wish */
		munmap(at, p->len);
	return (uint64_t)at == p->addr;
}

/* What cannot be had here each clone maps and fills for itself. */
static void map_ranges(struct stock *s, const Cpx__Mm *mm)
{
	size_t n = 0;

	for (size_t i = 0; i < s->range.n; i++)
		if (map_range(&s->range.r[i], vma_at(mm, s->range.r[i].addr)))
			s->range.r[n++] = s->range.r[i];
	s->range.n = n;
}

/* ---- the image, in two halves ----------------------------------------------------------------- */

/* Those parts of a piece that are in the ranges, or that are not. ret NULL: only counted. */
static unsigned cut(const struct page_ranges *l, const struct chunk_ref *c, const struct piece *p,
		    bool inside, struct piece *ret)
{
	uint64_t at = p->addr, end = p->addr + p->len;
	unsigned n = 0;

	while (at < end) {
		const struct page_range *r = page_range_at(l, at);
		uint64_t start = r ? MAX(at, MIN(end, r->addr)) : end;
		uint64_t stop = r ? MIN(end, r->addr + r->len) : end;
		uint64_t from = inside ? start : at, to = inside ? stop : start;

		if (from < to && ret)
			ret[n] = (struct piece){from, to - from,
						c->kind == CHUNK_DATA ? p->from + (from - p->addr) : 0};
		n += from < to;
		at = stop;
	}
	return n;
}

static unsigned cut_chunk(const struct stock *s, struct chunk_ref *c, int half, struct piece *ret)
{
	unsigned n = 0;

	for (unsigned k = 0; k < c->n; k++)
		n += cut(&s->range, c, &c->piece[k], half == INSIDE, ret ? ret + n : NULL);
	if (!ret)
		return n;
	c->piece = ret;
	c->n = n; /* with 0 it is not even read; its owner stays, by whose rank chunks are found */
	return n;
}

static int make_view(struct stock *s, const struct image *im, uint32_t object, int half, struct err *err)
{
	struct image *v = &s->view[half];
	size_t n = 0;

	*v = *im;
	v->chunk = malloc((im->nchunks + 1) * sizeof(*v->chunk));
	if (!v->chunk)
		return err_nomem(err);
	for (size_t i = 0; i < im->nchunks; i++) {
		v->chunk[i] = im->chunk[i];
		n += v->chunk[i].object == object ? cut_chunk(s, &v->chunk[i], half, NULL) : 0;
	}
	s->pieces[half] = calloc(n + 1, sizeof(struct piece));
	if (!s->pieces[half])
		return err_nomem(err);
	n = 0;
	for (size_t i = 0; i < im->nchunks; i++)
		if (v->chunk[i].object == object)
			n += cut_chunk(s, &v->chunk[i], half, s->pieces[half] + n);
	return 0;
}

/* ---- the fill --------------------------------------------------------------------------------- */

/* -1: not to be had, then pages are written through /proc/self/mem. */
static int own_uffd(const struct stock *s)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	bool ok = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	for (size_t i = 0; i < s->range.n && ok; i++) {
		struct uffdio_register reg = {.range = {s->range.r[i].addr, s->range.r[i].len},
					      .mode = UFFDIO_REGISTER_MODE_MISSING};

		ok = ioctl(fd, UFFDIO_REGISTER, &reg) == 0;
	}
	if (!ok && fd >= 0)
		close(TAKE_FD(fd));
	return fd;
}

static int fill(struct rtree *rt, struct stock *s, const Cpx__Task *msg, const Cpx__Mm *mm, struct err *err)
{
	struct rtask self = {.msg = msg, .pid = getpid(), .pidfd = -1, .mm = mm, .mm_owner = &self,
			     .mem_fd = -1, .uffd = own_uffd(s), .uffd_there = -1};
	struct rtask *task = &self;
	const struct image *whole = rt->image;
	int r;

	rt->image = &s->view[INSIDE];
	r = pagein_fill(rt, &task, 1, err);
	rt->image = whole;
	if (self.mem_fd >= 0)
		close(self.mem_fd);
	if (self.uffd >= 0)
		close(self.uffd);
	s->pages = self.pages;
	return r;
}

int stock_fill(struct rtree *rt, struct stock *s, struct err *err)
{
	const Cpx__Task *msg = image_task(rt->image, rt->image->info->root_pid);
	const Cpx__Mm *mm = image_mm(rt->image, msg->mm);
	struct page_ranges pages = {0};
	int r = add_populated(rt->image, mm->id, &pages, err);

	if (r == 0) {
		qsort(pages.r, pages.n, sizeof(*pages.r), by_addr);
		r = find_ranges(s, mm, &pages, err);
	}
	page_ranges_release(&pages);
	if (r == 0)
		map_ranges(s, mm);
	for (int half = OUTSIDE; half <= INSIDE && r == 0; half++)
		r = make_view(s, rt->image, mm->id, half, err);
	return r < 0 ? r : fill(rt, s, msg, mm, err);
}

void stock_drop(const struct stock *s)
{
	for (size_t i = 0; i < s->range.n; i++)
		munmap((void *)s->range.r[i].addr, s->range.r[i].len);
}

void stock_release(struct stock *s)
{
	for (int half = OUTSIDE; half <= INSIDE; half++) {
		free(s->view[half].chunk);
		free(s->pieces[half]);
	}
	page_ranges_release(&s->range);
	page_ranges_release(&s->pages);
	*s = (struct stock){0};
}
