/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guard pages (madvise(2), MADV_GUARD_INSTALL, Linux 6.13), with which the C library protects the
 * stacks of threads: found by PAGEMAP_SCAN since 6.15 (fs/proc/task_mmu.c). Before that nobody
 * outside of the task can see them, and they are lost. fork(2) copies them, to a twin as well.
 */
#include "mem/pages.h"

#include "base/kabi.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#define REGIONS 256

static int add(Cpx__Mm *mm, uint64_t start, uint64_t end)
{
	Cpx__Span **grown = reallocarray(mm->guard, mm->n_guard + 1, sizeof(*grown));
	Cpx__Span *g = malloc(sizeof(*g));

	if (grown)
		mm->guard = grown;
	if (!grown || !g) {
		free(g);
		return -ENOMEM;
	}
	cpx__span__init(g);
	g->start = start;
	g->end = end;
	mm->guard[mm->n_guard++] = g;
	return 0;
}

int guards_add(Cpx__Mm *mm, const struct page_ranges *guards, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < guards->n && r == 0; i++)
		r = add(mm, guards->r[i].addr, guards->r[i].addr + guards->r[i].len);
	return r < 0 ? err_nomem(err) : 0;
}

/* A kernel without the call or the category has none that could be seen. */
static int scan(Cpx__Mm *mm, int fd, uint64_t start, uint64_t end, struct err *err)
{
	struct page_region region[REGIONS];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.end = end,
		.vec = (uintptr_t)region,
		.vec_len = REGIONS,
		.category_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD,
	};

	for (arg.start = start; arg.start < end; arg.start = arg.walk_end) {
		long n = ioctl(fd, PAGEMAP_SCAN, &arg);

		if (n < 0)
			return errno == ENOTTY || errno == EINVAL
				       ? 0
				       : err_sys(err, -errno, "cannot look for guard pages");
		for (long i = 0; i < n; i++)
			if (add(mm, region[i].start, region[i].end) < 0)
				return err_nomem(err);
		if (arg.walk_end <= arg.start)
			break;
	}
	return 0;
}

/* Neighbours are looked at in one call, with the holes between them. */
static int scan_mappings(Cpx__Mm *mm, int fd, bool is_aside, struct err *err)
{
	int r = 0;

	for (size_t i = 0, k; i < mm->n_vma && r == 0; i = k) {
		for (k = i + 1; k < mm->n_vma; k++)
			if (vma_is_aside(mm->vma[k]) != vma_is_aside(mm->vma[i]))
				break;
		if (vma_is_aside(mm->vma[i]) == is_aside)
			r = scan(mm, fd, mm->vma[i]->start, mm->vma[k - 1]->end, err);
	}
	return r;
}

static bool has_any(const Cpx__Mm *mm, bool is_aside)
{
	for (size_t i = 0; i < mm->n_vma; i++)
		if (vma_is_aside(mm->vma[i]) == is_aside)
			return true;
	return false;
}

int guards_find(Cpx__Mm *mm, pid_t pid, bool is_aside, struct err *err)
{
	_cleanup_close_ int dir = -1, fd = -1;
	int r;

	if (!has_any(mm, is_aside))
		return 0;
	r = proc_open(-1, pid, 0, &dir, err);
	if (r == 0)
		r = proc_open_file(dir, "pagemap", O_RDONLY, &fd, err);
	return r < 0 ? r : scan_mappings(mm, fd, is_aside, err);
}
