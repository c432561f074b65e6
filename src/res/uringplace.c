/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps the rings of an io_uring at their old address. Since Linux 6.5 the kernel does not let anybody
 * choose it (io_uring/memmap.c, io_uring_get_unmapped_area), nor move the mapping. But it looks for a
 * gap that is large enough: so all others are filled for a moment, until there is only the right
 * one. Reads /proc/PID/maps of the task under construction.
 */
#include "res/uring.h"

#include "mem/mem.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MAP_ABOVE4G
#define MAP_ABOVE4G 0x80
#endif

#define LOWEST	 0x10000UL /* vm.mmap_min_addr */
#define FOUR_GIB (1UL << 32)
#define TASK_END 0x7ffffffff000UL

struct place {
	const struct rings_host *h;
	uint32_t pid;
	const Cpx__Vma *v;
	struct page_ranges filler;
};

static int add_filler(struct place *p, uint64_t start, uint64_t end, struct err *err)
{
	struct page_ranges *f = &p->filler;

	if (start >= end)
		return 0;
	if (grow(&f->r, &f->max, f->n, sizeof(*f->r)) < 0)
		return err_nomem(err);
	f->r[f->n++] = (struct page_range){start, end - start};
	return 0;
}

/* One gap, but for the place itself. What is too small may stay. */
static int add_gap(struct place *p, uint64_t start, uint64_t end, struct err *err)
{
	bool is_small = start + (p->v->end - p->v->start) > end;
	int r;

	if (start >= p->v->end || end <= p->v->start)
		return is_small ? 0 : add_filler(p, start, end, err);
	r = add_filler(p, start, p->v->start, err);
	return r < 0 ? r : add_filler(p, p->v->end, end, err);
}

static int find_gaps(struct place *p, const struct proc_vmas *maps, struct err *err)
{
	uint64_t at = p->v->start >= FOUR_GIB ? FOUR_GIB : LOWEST;
	int r = 0;

	for (size_t i = 0; i < maps->n && r == 0; i++) {
		r = add_gap(p, at, MIN(maps->vma[i].start, TASK_END), err);
		at = MAX(at, maps->vma[i].end);
	}
	return r < 0 ? r : add_gap(p, at, TASK_END, err);
}

static int read_gaps(struct place *p, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_vmas maps = {0};
	int r = proc_open(p->h->c->proc_fd, (pid_t)p->pid, 0, &dir, err);

	if (r == 0)
		r = proc_maps(dir, &maps, err);
	if (r == 0)
		r = find_gaps(p, &maps, err);
	proc_vmas_release(&maps);
	return r;
}

static int run_all(struct place *p, struct batch *b, struct err *err)
{
	int r = p->h->run(p->h->engine, p->pid, b, err);

	for (unsigned i = 0; i < b->n && r == 0; i++)
		if (batch_ret(b, i) < 0 && batch_ret(b, i) > -4096)
			r = err_sys(err, (int)batch_ret(b, i), "cannot make room for rings");
	*b = p->h->batch(p->h->engine, p->pid);
	return r;
}

static int fill(struct place *p, bool is_filled, struct err *err)
{
	struct batch b = p->h->batch(p->h->engine, p->pid);
	int r = 0;

	for (size_t i = 0; i < p->filler.n && r == 0; i++) {
		const struct page_range *f = &p->filler.r[i];

		if (is_filled)
			BATCH_CALL(&b, SYS_mmap, f->addr, f->len, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
					   MAP_FIXED_NOREPLACE,
				   -1, 0);
		else
			BATCH_CALL(&b, SYS_munmap, f->addr, f->len);
		if (batch_is_tight(&b, 1, 0))
			r = run_all(p, &b, err);
	}
	return r < 0 || !b.n ? r : run_all(p, &b, err);
}

/* *ret: where it is, or a negative errno. */
static int map(struct place *p, int fd, uint64_t addr, int flags, int64_t *ret, struct err *err)
{
	struct batch b = p->h->batch(p->h->engine, p->pid);
	int r;

	BATCH_CALL(&b, SYS_mmap, addr, p->v->end - p->v->start, p->v->prot, MAP_SHARED | flags, fd,
		   p->v->offset);
	r = p->h->run(p->h->engine, p->pid, &b, err);
	*ret = batch_ret(&b, 0);
	return r;
}

static int map_in_gap(struct place *p, int fd, struct err *err)
{
	bool is_high = p->v->start >= FOUR_GIB;
	int64_t at = 0;
	int r = read_gaps(p, err);

	if (r == 0)
		r = fill(p, true, err);
	if (r == 0)
		r = map(p, fd, 0, is_high ? MAP_ABOVE4G : 0, &at, err);
	if (r == 0)
		r = fill(p, false, err);
	if (r == 0 && (uint64_t)at != p->v->start)
		r = err_set(err, -EADDRNOTAVAIL, "rings cannot be mapped at %#llx (%lld)",
			    (unsigned long long)p->v->start, (long long)at);
	return r;
}

static int advise(struct place *p, struct err *err)
{
	struct batch b = p->h->batch(p->h->engine, p->pid);
	uint64_t len = p->v->end - p->v->start;

	if (p->v->vm_flags & VMA_DONTFORK)
		BATCH_CALL(&b, SYS_madvise, p->v->start, len, MADV_DONTFORK);
	if (p->v->vm_flags & VMA_DONTDUMP)
		BATCH_CALL(&b, SYS_madvise, p->v->start, len, MADV_DONTDUMP);
	return b.n ? run_all(p, &b, err) : 0;
}

int uring_place(const struct rings_host *h, const Cpx__Task *task, const Cpx__Vma *v, int fd,
		struct err *err)
{
	struct place p = {.h = h, .pid = task->pid, .v = v};
	int64_t at;
	int r = map(&p, fd, v->start, MAP_FIXED_NOREPLACE, &at, err);

	if (r == 0 && (uint64_t)at != v->start)
		r = map_in_gap(&p, fd, err);
	if (r == 0)
		r = advise(&p, err);
	page_ranges_release(&p.filler);
	return r < 0 ? err_context(err, "task %u", task->pid) : 0;
}
