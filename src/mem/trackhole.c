/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What kernels get wrong that track writes, and how it is made up for. Uses userfaultfd(2) and
 * PAGEMAP_SCAN.
 *
 * A range without page tables is not "written" for a kernel that has not got "fs/proc/task_mmu: fix
 * PAGEMAP_SCAN written state for PMD holes" (2026): a huge page that was protected and given back
 * (MADV_DONTNEED), or pages moved away by mremap(2), would be taken for unchanged. There the kernel
 * is asked once more for a page of each page table; to ask it for what is populated of all pages
 * takes four times as long.
 */
#include "mem/pages.h"

#include "base/kabi.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define TABLE (2UL << 20) /* what one page table is for */

static bool scan_reports(uint64_t start)
{
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = start + TABLE,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	return fd >= 0 && ioctl(fd, PAGEMAP_SCAN, &arg) == 1 && region.start == start &&
	       region.end == start + TABLE;
}

/* [at, at + 2 * TABLE) was never touched. */
static bool reports_holes(uint64_t at)
{
	_cleanup_close_ int uffd =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | KABI_UFFD_USER_MODE_ONLY);
	struct uffdio_api api = {.api = UFFD_API, .features = KABI_UFFD_FEATURE_WP_ASYNC};
	struct uffdio_register reg = {
		.range = {ALIGN_UP(at, TABLE), TABLE},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 &&
	       ioctl(uffd, UFFDIO_REGISTER, &reg) == 0 && scan_reports(reg.range.start);
}

bool track_sees_holes(void)
{
	void *p = mmap(NULL, 2 * TABLE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bool ret;

	if (p == MAP_FAILED || is_denied("pagemap_holes"))
		return false;
	ret = reports_holes((uintptr_t)p);
	munmap(p, 2 * TABLE);
	return ret;
}

/* ---- what has no page table ---- */

/* The next page that is populated and protected, or end. */
static int find_closed(const struct track *t, uint64_t start, uint64_t end, uint64_t *ret)
{
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.max_pages = 1,
		.category_inverted = PAGE_IS_WRITTEN,
		.category_mask = PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WPALLOWED,
	};
	int n = ioctl(t->pagemap_fd, PAGEMAP_SCAN, &arg);

	*ret = n > 0 ? region.start : end;
	return n < 0 ? -errno : 0;
}

/* Of what is said to be closed one page of each table is looked at: if it is, there is a table, and
 * the kernel right about all of it. */
static int add_between(const struct track *t, uint64_t start, uint64_t end, uint64_t *has_table,
		       struct page_ranges *out, struct err *err)
{
	for (uint64_t at = start, closed; at < end; at = ALIGN_DOWN(closed, TABLE) + TABLE) {
		int r = 0;

		closed = at;
		if (ALIGN_DOWN(at, TABLE) == *has_table)
			continue;
		r = find_closed(t, at, end, &closed);
		if (r < 0)
			return r == -EPERM ? r : err_sys(err, r, "cannot find what was written to");
		if (closed > at && page_ranges_add(out, at, closed) < 0)
			return err_nomem(err);
		if (closed < end)
			*has_table = ALIGN_DOWN(closed, TABLE);
	}
	return 0;
}

int track_add_holes(const struct track *t, uint64_t start, uint64_t end,
		    const struct page_ranges *open, struct page_ranges *out, struct err *err)
{
	uint64_t has_table = 1;
	int r = 0;

	for (size_t i = 0; i < open->n && r == 0; i++) {
		const struct page_range *o = &open->r[i];

		r = add_between(t, start, o->addr, &has_table, out, err);
		start = o->addr + o->len;
		if (r == 0 && page_ranges_add(out, o->addr, start) < 0)
			r = err_nomem(err);
	}
	return r < 0 ? r : add_between(t, start, end, &has_table, out, err);
}
