/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pages of an mm in groups, mapping by mapping. Reads /proc/PID/pagemap (select.c) of a task
 * that does not run: the twin, or the frozen task. Bytes come from /proc/PID/mem (rangesource.c).
 */
#include "mem/pages.h"

#include "proc/proc.h"

#include <fcntl.h>

bool vma_is_aside(const Cpx__Vma *v)
{
	bool is_private = v->kind == CPX__VMA__KIND__ANON ||
			  v->kind == CPX__VMA__KIND__FILE_PRIVATE ||
			  v->kind == CPX__VMA__KIND__HUGETLB;

	/* Memory that is MADV_DONTFORK a twin has in spite of it: unforked.c. A huge page that the original writes to may be taken from its twin: mm/hugetlb.c,
	 * unmap_ref_private(). */
	return is_private && (v->vm_flags & VMA_WIPEONFORK || v->hugepage_shift);
}

static bool is_ordinary(const Cpx__Vma *v)
{
	return (v->kind == CPX__VMA__KIND__ANON || v->kind == CPX__VMA__KIND__FILE_PRIVATE) &&
	       !vma_is_aside(v);
}

static bool is_wanted(const struct page_plan *pl, const Cpx__Vma *v)
{
	if (v->vm_flags & VMA_DROPPABLE)
		return false;
	return pl->is_aside ? vma_is_aside(v) : is_ordinary(v);
}

/* The next wanted mapping becomes current. False after the last. */
static bool next_vma(struct page_plan *pl)
{
	while (pl->vma < pl->mm->n_vma) {
		const Cpx__Vma *v = pl->mm->vma[pl->vma++];

		if (!is_wanted(pl, v))
			continue;
		pl->current = v;
		pl->pos = v->start;
		return true;
	}
	return false;
}

/* So much at once that a call costs nothing, so little that nobody waits for it. */
#define SELECT_PAGES 16384

/* More ranges. 0, or -ENODATA when there are no more. */
static int select_more(struct page_plan *pl, struct err *err)
{
	int r = 0;

	pl->ranges.n = 0;
	pl->range = 0;
	pl->within = 0;
	while (r == 0 && !pl->ranges.n) {
		if ((!pl->current || pl->pos >= pl->current->end) && !next_vma(pl))
			return -ENODATA;
		r = pages_select_some(pl->pagemap_fd, pl->pos, pl->current->end, SELECT_PAGES,
				      &pl->ranges, &pl->pos, err);
	}
	return r;
}

static void take_run(struct page_plan *pl, uint64_t max, struct page_group *g)
{
	const struct page_range *r = &pl->ranges.r[pl->range];
	uint64_t len = MIN(r->len - pl->within, max - g->bytes);

	g->run[g->n++] = (struct page_run){r->addr + pl->within, len, pl->current};
	g->bytes += len;
	pl->within += len;
	if (pl->within == r->len) {
		pl->range++;
		pl->within = 0;
	}
}

static int plan_next(struct page_source *s, uint64_t max, struct page_group *ret, struct err *err)
{
	struct page_plan *pl = (struct page_plan *)s;
	int r;

	ret->n = 0;
	ret->bytes = 0;
	while (ret->n < GROUP_RUNS && ret->bytes < max) {
		if (pl->range < pl->ranges.n) {
			take_run(pl, max, ret);
			continue;
		}
		r = select_more(pl, err);
		if (r == -ENODATA)
			return 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int plan_read(struct page_source *s, uint64_t addr, void *buf, size_t len, struct err *err)
{
	int r = page_mem_read(((const struct page_plan *)s)->mem_fd, addr, buf, len);

	return r < 0 ? page_mem_failed(r, addr, err) : 0;
}

int page_plan_open(struct page_plan *pl, const Cpx__Mm *mm, bool is_aside, pid_t pid, bool with_mem,
		   struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r;

	*pl = (struct page_plan){
		.source = {plan_next, plan_read},
		.mm = mm,
		.is_aside = is_aside,
		.pagemap_fd = -1,
		.mem_fd = -1,
	};
	r = proc_open(-1, pid, 0, &dir, err);
	if (r == 0)
		r = proc_open_file(dir, "pagemap", O_RDONLY, &pl->pagemap_fd, err);
	if (r == 0 && with_mem)
		r = proc_open_file(dir, "mem", O_RDONLY, &pl->mem_fd, err);
	if (r < 0)
		page_plan_close(pl);
	return r;
}

void page_plan_close(struct page_plan *pl)
{
	cleanup_close(&pl->pagemap_fd);
	cleanup_close(&pl->mem_fd);
	pl->pagemap_fd = pl->mem_fd = -1;
	page_ranges_release(&pl->ranges);
}
