/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What kernels get wrong that track writes, and how it is made up for. Uses userfaultfd(2) and PAGEMAP_SCAN.
 *
 * A range without page tables is not "written" for a kernel that has not got "fs/proc/task_mmu: fix PAGEMAP_SCAN
 * written state for PMD holes" (2026): a huge page that was protected and given back (MADV_DONTNEED), or pages
 * moved away by mremap(2), would be taken for unchanged. There only what is populated counts as such, which takes
 * four times as long to find out.
 *
 * Before Linux 6.13 mremap(2) lets a page that moves keep its mark of a protection that does not hold any more.
 */
#include "mem/pages.h"

#include "base/kabi.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

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
	_cleanup_close_ int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | KABI_UFFD_USER_MODE_ONLY);
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

bool track_keeps_marks(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return true;
	return major < 6 || (major == 6 && minor < 13) || is_denied("mremap_marks");
}

void track_clear_marks(const struct track *t, uint64_t start, uint64_t end)
{
	struct uffdio_writeprotect wp = {.range = {start, end - start}};

	if (t->keeps_marks)
		ioctl(t->uffd, UFFDIO_WRITEPROTECT, &wp);
}

/* ---- what is protected and populated, and so what is not ---- */

static struct pm_scan_arg closed_args(uint64_t start, uint64_t end, struct page_region *vec, size_t n)
{
	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)vec,
		.vec_len = n,
		.category_inverted = PAGE_IS_WRITTEN,
		.category_mask = PAGE_IS_WRITTEN,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WPALLOWED,
	};
}

/* Up to the next closed region, and what lies between. Regions may be reported a second time. */
static int add_between(struct page_ranges *out, uint64_t *at, const struct page_region *region, long n)
{
	int r = 0;

	for (long i = 0; i < n && r == 0; i++) {
		if (region[i].start > *at)
			r = page_ranges_add(out, *at, region[i].start);
		*at = MAX(*at, region[i].end);
	}
	return r;
}

int track_find_not_closed(const struct track *t, uint64_t start, uint64_t end, struct page_ranges *out,
			  struct err *err)
{
	struct page_region region[512];
	uint64_t at = start;

	while (start < end) {
		struct pm_scan_arg arg = closed_args(start, end, region, ARRAY_SIZE(region));
		long n = ioctl(t->pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0 && errno == EPERM)
			return -EPERM;
		if (n < 0)
			return err_sys(err, -errno, "cannot find what was written to");
		if (add_between(out, &at, region, n) < 0)
			return err_nomem(err);
		if (arg.walk_end <= start)
			return err_set(err, -EIO, "cannot find what was written to");
		start = arg.walk_end;
	}
	return at < end && page_ranges_add(out, at, end) < 0 ? err_nomem(err) : 0;
}
