/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which pages of a private mapping hold data of their own: ioctl PAGEMAP_SCAN (Linux 6.7,
 * Documentation/admin-guide/mm/pagemap.rst), or the entries of /proc/PID/pagemap before it. The
 * entries do not tell the shared zero page (their PFN is hidden from ordinary users): such pages
 * are selected there and fall to the zero scan later.
 *
 * Guard pages count as swapped out: they are told apart here, and recorded by guard.c.
 */
#include "mem/pages.h"

#include "base/kabi.h"
#include "base/util.h"

#include <sys/ioctl.h>

int page_ranges_add(struct page_ranges *out, uint64_t start, uint64_t end)
{
	struct page_range *last = out->n ? &out->r[out->n - 1] : NULL;

	out->bytes += end - start;
	if (last && last->addr + last->len == start) {
		last->len += end - start;
		return 0;
	}
	if (grow(&out->r, &out->max, out->n, sizeof(*out->r)) < 0)
		return -ENOMEM;
	out->r[out->n++] = (struct page_range){start, end - start};
	return 0;
}

#define REGIONS 512

#define UNWANTED (PAGE_IS_FILE | PAGE_IS_PFNZERO)

static struct pm_scan_arg scan_args(uint64_t start, uint64_t end, struct page_region *vec,
				    uint64_t known)
{
	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)vec,
		.vec_len = REGIONS,
		.category_inverted = UNWANTED,
		.category_mask = UNWANTED,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = known,
	};
}

/* guards: may be NULL. */
static int add_regions(struct page_ranges *out, struct page_ranges *guards,
		       const struct page_region *region, long n)
{
	int r = 0;

	for (long i = 0; i < n && r == 0; i++) {
		bool is_guard = region[i].categories & PAGE_IS_GUARD;
		struct page_ranges *to = is_guard ? guards : out;

		if (to)
			r = page_ranges_add(to, region[i].start, region[i].end);
	}
	return r;
}

/*
 * One call: up to max pages, as many regions as fit. *ret_end is where it stopped. 0, or -errno.
 * known: categories to be told apart; must not be empty.
 */
static int scan(int fd, uint64_t start, uint64_t end, uint64_t max, uint64_t known,
		struct page_ranges *out, struct page_ranges *guards, uint64_t *ret_end)
{
	struct page_region region[REGIONS];
	struct pm_scan_arg arg = scan_args(start, end, region, known);
	long n;

	arg.max_pages = max;
	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	if (n < 0)
		return -errno;
	*ret_end = arg.walk_end;
	if (add_regions(out, guards, region, n) < 0)
		return -ENOMEM;
	return arg.walk_end > start ? 0 : -EIO;
}

#define ENTRIES	   4096
#define PM_PRESENT (1ULL << 63)
#define PM_SWAP	   (1ULL << 62)
#define PM_FILE	   (1ULL << 61)
#define PM_GUARD   (1ULL << 58)

static int add_entry(struct page_ranges *out, uint64_t entry, uint64_t addr)
{
	if (!(entry & (PM_PRESENT | PM_SWAP)) || entry & (PM_FILE | PM_GUARD))
		return 0;
	return page_ranges_add(out, addr, addr + CPX_PAGE_SIZE);
}

static int add_entries(struct page_ranges *out, const uint64_t *entry, size_t n, uint64_t addr)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = add_entry(out, entry[i], addr + i * CPX_PAGE_SIZE);
	return r;
}

/* One read. */
static int read_entries(int fd, uint64_t start, uint64_t end, struct page_ranges *out,
			uint64_t *ret_end)
{
	_cleanup_free_ uint64_t *entry = malloc(ENTRIES * sizeof(*entry));
	size_t want = MIN((end - start) / CPX_PAGE_SIZE, (uint64_t)ENTRIES);
	ssize_t n;

	if (!entry)
		return -ENOMEM;
	n = pread(fd, entry, want * sizeof(*entry),
		  (off_t)(start / CPX_PAGE_SIZE * sizeof(*entry)));
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	*ret_end = start + (size_t)n / sizeof(*entry) * CPX_PAGE_SIZE;
	return add_entries(out, entry, (size_t)n / sizeof(*entry), start);
}

/* Newest interface first. A kernel without guard pages does not know their category. */
static int select_some(int fd, uint64_t start, uint64_t end, uint64_t max, struct page_ranges *out,
		       struct page_ranges *guards, uint64_t *ret_end)
{
	int r = -ENOTTY;

	if (!is_denied("pagemap_scan"))
		r = scan(fd, start, end, max, PAGE_IS_GUARD, out, guards, ret_end);
	if (r == -EINVAL)
		r = scan(fd, start, end, max, PAGE_IS_PFNZERO, out, guards, ret_end);
	if (r == -ENOTTY || r == -EINVAL)
		r = read_entries(fd, start, end, out, ret_end);
	return r;
}

static int select_failed(int r, uint64_t start, uint64_t end, struct err *err)
{
	if (r == -ENOMEM)
		return err_nomem(err);
	return err_sys(err, r, "cannot find the pages of %#lx-%#lx", (unsigned long)start,
		       (unsigned long)end);
}

int pages_select_some(int pagemap_fd, uint64_t start, uint64_t end, uint64_t max,
		      struct page_ranges *out, uint64_t *ret_end, struct err *err)
{
	int r = select_some(pagemap_fd, start, end, max, out, NULL, ret_end);

	return r < 0 ? select_failed(r, start, end, err) : 0;
}

int pages_select_apart(int pagemap_fd, uint64_t start, uint64_t end, struct page_ranges *out,
		       struct page_ranges *guards, struct err *err)
{
	int r = 0;

	while (start < end && r == 0)
		r = select_some(pagemap_fd, start, end, 0, out, guards, &start);
	return r < 0 ? select_failed(r, start, end, err) : 0;
}

int pages_select(int pagemap_fd, uint64_t start, uint64_t end, struct page_ranges *out,
		 struct err *err)
{
	return pages_select_apart(pagemap_fd, start, end, out, NULL, err);
}

const struct page_range *page_range_at(const struct page_ranges *p, uint64_t addr)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->r[mid].addr + p->r[mid].len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n ? &p->r[lo] : NULL;
}

void page_ranges_release(struct page_ranges *p)
{
	free(p->r);
	*p = (struct page_ranges){0};
}
