/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hole: one range of addresses that is free in every address space of the image and in the
 * coordinator. The mailbox, the loop's code and the staged shared objects live there until the
 * switch, at the same address in all tasks.
 *
 *   hole | scratch (the vdso, while the rest is unmapped) | code page | lanes | staged objects |
 */
#include "engine/rtree.h"

#include "base/util.h"
#include "proc/proc.h"

#include <sys/mman.h>

#define SCRATCH_SIZE (1UL << 20)
#define LOWEST	     (1UL << 30)
#define HIGHEST	     0x7ffffffff000UL
#define MARGIN	     (64UL << 20) /* from any mapping: stacks and the heap may have to grow */

struct span {
	uint64_t start, end;
};
struct spans {
	struct span *s;
	size_t n, max;
};

static int add_span(struct spans *l, uint64_t start, uint64_t end)
{
	if (grow(&l->s, &l->max, l->n, sizeof(*l->s)) < 0)
		return -ENOMEM;
	l->s[l->n++] = (struct span){start, end};
	return 0;
}

static int add_image_spans(struct spans *l, const struct image *im)
{
	const Cpx__Host *h = im->info->host;
	int r = 0;

	for (size_t i = 0; i < im->nmms; i++) {
		const Cpx__Mm *mm = im->mm[i];

		for (size_t k = 0; k < mm->n_vma && r == 0; k++)
			r = add_span(l, mm->vma[k]->start, mm->vma[k]->end);
		if (r == 0 && mm->vdso)
			r = add_span(l, mm->vdso, mm->vdso + h->vdso_size);
		if (r == 0 && mm->vvar)
			r = add_span(l, mm->vvar, mm->vvar + h->vvar_size);
	}
	return r;
}

static int add_own_spans(struct rtree *rt, struct spans *l, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_vmas v = {0};
	int r = proc_open(-1, getpid(), 0, &dir, err);

	if (r == 0)
		r = proc_maps(dir, &v, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < v.n && r == 0; i++)
		if (v.vma[i].start < HIGHEST)
			r = add_span(l, v.vma[i].start, v.vma[i].end);
	r = r < 0 ? err_nomem(err) : layout_note_specials(rt, &v, err);
	proc_vmas_release(&v);
	return r;
}

static int by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* The middle of the largest gap: furthest from whatever may grow. */
static uint64_t find_hole(struct spans *l, uint64_t size)
{
	uint64_t end = LOWEST, best = 0, best_len = 0;

	qsort(l->s, l->n, sizeof(*l->s), by_start);
	for (size_t i = 0; i <= l->n; i++) {
		uint64_t next = i < l->n ? l->s[i].start : HIGHEST;

		if (next > end && next - end > best_len) {
			best_len = next - end;
			best = end;
		}
		if (i < l->n)
			end = MAX(end, l->s[i].end);
	}
	if (best_len < size + 2 * MARGIN)
		return 0;
	return ALIGN_DOWN(best + (best_len - size) / 2, 2UL << 20);
}

static int choose_hole(struct rtree *rt, struct err *err)
{
	struct spans l = {0};
	int r = add_own_spans(rt, &l, err);

	if (r == 0 && add_image_spans(&l, rt->image) < 0)
		r = err_nomem(err);
	if (r == 0) {
		rt->hole = find_hole(&l, rt->hole_size);
		if (!rt->hole)
			r = err_set(err, -ENOMEM, "no %llu bytes of addresses are free in all tasks",
				    (unsigned long long)rt->hole_size);
	}
	free(l.s);
	return r;
}

static int map_code(struct rtree *rt, struct err *err)
{
	size_t size;
	const void *code = arch_loop_code(&size);
	void *p = mmap((void *)rt->code, CPX_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map the loop's code");
	memcpy(p, code, size);
	if (mprotect(p, CPX_PAGE_SIZE, PROT_READ | PROT_EXEC) < 0)
		return err_sys(err, -errno, "cannot make the loop's code executable");
	return 0;
}

static int map_lanes(struct rtree *rt, size_t lanes, struct err *err)
{
	size_t size = lanes * LANE_SIZE;
	void *p = mmap((void *)(rt->code + CPX_PAGE_SIZE), size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map the mailbox");
	rt->box = (struct mailbox){.local = p, .remote = (uint64_t)p, .nlanes = lanes, .size = size};
	return 0;
}

int space_setup(struct rtree *rt, size_t lanes, struct err *err)
{
	uint64_t stage = objects_stage_size(rt->image);
	int r;

	rt->hole_size = SCRATCH_SIZE + CPX_PAGE_SIZE +
			ALIGN_UP(lanes * LANE_SIZE + stage, 2UL << 20) + (2UL << 20);
	r = choose_hole(rt, err);
	if (r < 0)
		return r;
	rt->scratch = rt->hole;
	rt->code = rt->hole + SCRATCH_SIZE;
	rt->stage = ALIGN_UP(rt->code + CPX_PAGE_SIZE + lanes * LANE_SIZE, 2UL << 20);
	r = map_code(rt, err);
	return r < 0 ? r : map_lanes(rt, lanes, err);
}

void space_release(struct rtree *rt)
{
	for (size_t i = 0; i < rt->next_lane; i++)
		lane_retire(mailbox_lane(&rt->box, i));
	rt->next_lane = 0;
	if (rt->hole)
		munmap((void *)rt->hole, rt->hole_size);
	rt->hole = 0;
}
