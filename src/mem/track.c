/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which pages of an address space were written to while it ran: userfaultfd(2) in its asynchronous
 * write-protect mode (UFFD_FEATURE_WP_ASYNC, Linux 6.7) and PAGEMAP_SCAN. Closing the userfaultfd,
 * or our death, undoes all of it.
 *
 * Only populated pages are protected: the rest is unprotected when it comes, and so counts as
 * written to. Only private anonymous memory is watched. In a private file mapping a page that the
 * task gives back (MADV_DONTNEED) leaves a mark that looks like a page that is still there
 * (mm/memory.c, zap_install_uffd_wp_if_needed).
 *
 * Seen from the task: its mappings are the same, but one that grows, or gets a neighbour, while it
 * is watched may stay two where it would have become one. The kernel's writes through pages that it
 * looked up before they were protected are not seen: see track_mark().
 */
#include "mem/pages.h"

#include "base/kabi.h"
#include "base/log.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define REGIONS 512

/* The kernel holds off whoever maps and unmaps in the task during a call. */
#define STEP	   (16UL << 20)
#define STEP_PAGES (STEP >> CPX_PAGE_SHIFT)

/* Smaller ones that are new are copied in the freeze as a whole: watching them costs their
 * merging with the next one. */
#define WORTHWHILE (1UL << 20)

/* ---- what is watched ---- */

bool track_may_watch(const struct proc_vma *v)
{
	return !v->is_shared && !vma_is_special(v) &&
	       (!v->ino || (!v->is_deleted && !strcmp(v->path, "/dev/zero")));
}

/* What cannot be watched is left out: a userfaultfd of its own is there, or the kernel will not. */
bool track_register(const struct track *t, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = {
		.range = {start, end - start},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(t->uffd, UFFDIO_REGISTER, &reg) == 0;
}

static bool overlaps(const struct page_ranges *p, uint64_t start, uint64_t end)
{
	const struct page_range *r = page_range_at(p, start);

	return r && r->addr < end;
}

bool track_watches(const struct track *t, uint64_t start, uint64_t end)
{
	return overlaps(&t->span, start, end);
}

/* What has grown, and parts of it, may lie outside of what was seen at the last stop. */
bool track_owns(const struct track *t, uint64_t start, uint64_t end)
{
	return track_watches(t, start, end) || track_register(t, start, end);
}

/* By anybody who could: see track_new(). */
static bool is_watched(const struct track *t, uint64_t start)
{
	struct page_ranges open = {0};
	int r = track_find_open(t, start, start + CPX_PAGE_SIZE, &open, NULL);

	page_ranges_release(&open);
	return r == 0;
}

/*
 * Pages that are moved back to where they came from, next to those that have stayed, make the
 * kernel forget that these are watched, but not that they are protected (mm/userfaultfd.c,
 * mremap_userfaultfd_prep: of the whole mapping that they have become one with). Such a page looks
 * protected, and may be written to without a fault. So what is watched anew is unprotected first,
 * and nothing is known of it.
 */
static int watch_anew(struct track *t, const struct proc_vma *v, struct err *err)
{
	if (!track_register(t, v->start, v->end) || track_unprotect(t, v->start, v->end) < 0)
		return 0;
	if (page_known_set(&t->known, v->start, v->end - v->start, PAGE_UNKNOWN) < 0 ||
	    page_ranges_add(&t->span, v->start, v->end) < 0)
		return err_nomem(err);
	return 0;
}

static int watch_mapping(struct track *t, const struct proc_vma *v, bool was_watched,
			 struct err *err)
{
	if (!was_watched || !is_watched(t, v->start))
		return watch_anew(t, v, err);
	return page_ranges_add(&t->span, v->start, v->end) < 0 ? err_nomem(err) : 0;
}

static int watch_mappings(struct track *t, const struct page_ranges *before, uint64_t least,
			  struct err *err)
{
	struct proc_vmas maps = {0};
	int r = proc_maps(t->dir, &maps, err);

	for (size_t i = 0; i < maps.n && r == 0; i++) {
		const struct proc_vma *v = &maps.vma[i];
		bool was_watched = overlaps(before, v->start, v->end);

		if (track_may_watch(v) && (was_watched || v->end - v->start >= least))
			r = watch_mapping(t, v, was_watched, err);
	}
	proc_vmas_release(&maps);
	return r;
}

/* Only while frozen: a mapping that grew just then would be watched in part, and so be two, which
 * mremap(2) does not take. */
int track_watch_new(struct track *t, struct err *err)
{
	struct page_ranges before = t->span;
	int r = track_open(t, err);

	t->span = (struct page_ranges){0};
	if (r == 0)
		r = watch_mappings(t, &before, WORTHWHILE, err);
	page_ranges_release(&before);
	return r;
}

/* To register once more what is watched changes nothing, and fails where it is somebody else's. */
static int watch_still(struct track *t, const struct proc_vma *v, struct err *err)
{
	if (!is_watched(t, v->start))
		return watch_anew(t, v, err);
	if (!track_register(t, v->start, v->end))
		return 0;
	return page_ranges_add(&t->span, v->start, v->end) < 0 ? err_nomem(err) : 0;
}

int track_watch_all(struct track *t, struct err *err)
{
	struct proc_vmas maps = {0};
	int r = proc_maps(t->dir, &maps, err);

	page_ranges_release(&t->span);
	for (size_t i = 0; i < maps.n && r == 0; i++)
		if (track_may_watch(&maps.vma[i]))
			r = watch_still(t, &maps.vma[i], err);
	proc_vmas_release(&maps);
	return r;
}

/* Anew each time: what was opened before an execve(2) shows an address space without mappings. */
int track_open(struct track *t, struct err *err)
{
	int r;

	cleanup_close(&t->pagemap_fd);
	cleanup_close(&t->mem_fd);
	t->pagemap_fd = t->mem_fd = -1;
	r = proc_open_file(t->dir, "pagemap", O_RDONLY, &t->pagemap_fd, err);
	return r < 0 ? r : proc_open_file(t->dir, "mem", O_RDONLY, &t->mem_fd, err);
}

static int begin(struct track *t, struct err *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = KABI_UFFD_FEATURE_WP_ASYNC};
	const struct page_ranges none = {0};
	int r;

	if (is_denied("pagemap_scan"))
		return err_set(err, -ENOTTY, "the kernel does not track writes (PAGEMAP_SCAN)");
	if (ioctl(t->uffd, UFFDIO_API, &api) < 0)
		return err_sys(err, -errno, "the kernel does not track writes (userfaultfd)");
	r = proc_open(-1, t->pid, 0, &t->dir, err);
	if (r == 0)
		r = track_open(t, err);
	return r < 0 ? r : watch_mappings(t, &none, 0, err);
}

int track_new(pid_t pid, int uffd, uint32_t early, struct track **ret, struct err *err)
{
	struct track *t = calloc(1, sizeof(*t));
	int r;

	if (!t) {
		cleanup_close(&uffd);
		return err_nomem(err);
	}
	*t = (struct track){.pid = pid, .early = early, .uffd = uffd};
	t->sees_holes = track_sees_holes();
	t->dir = t->pagemap_fd = t->mem_fd = -1;
	r = begin(t, err);
	if (r < 0) {
		track_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

/* ---- what is open ---- */

/* With these very arguments the kernel only looks at page table entries, no pages: a fortieth of
 * the time (fs/proc/task_mmu.c, pagemap_scan_pmd_entry). What is not populated is "written" as
 * well. */
static struct pm_scan_arg open_args(uint64_t start, uint64_t end, struct page_region *vec)
{
	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.flags = PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)vec,
		.vec_len = REGIONS,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
}

/* Regions may be reported a second time where a call had to take breath. */
static int add_once(struct page_ranges *out, uint64_t start, uint64_t end)
{
	const struct page_range *last = out->n ? &out->r[out->n - 1] : NULL;

	if (last && start < last->addr + last->len)
		start = last->addr + last->len;
	return start < end ? page_ranges_add(out, start, end) : 0;
}

static int add_regions(struct page_ranges *out, const struct page_region *region, long n)
{
	int r = 0;

	for (long i = 0; i < n && r == 0; i++)
		r = add_once(out, region[i].start, region[i].end);
	return r;
}

static int scan_open(const struct track *t, uint64_t start, uint64_t end, struct page_ranges *out,
		     struct err *err)
{
	struct page_region region[REGIONS];

	while (start < end) {
		struct pm_scan_arg arg = open_args(start, end, region);
		long n = ioctl(t->pagemap_fd, PAGEMAP_SCAN, &arg);

		if (n < 0 && errno == EPERM)
			return -EPERM;
		if (n < 0)
			return err_sys(err, -errno, "cannot find what was written to");
		if (add_regions(out, region, n) < 0)
			return err_nomem(err);
		if (arg.walk_end <= start)
			return err_set(err, -EIO, "cannot find what was written to");
		start = arg.walk_end;
	}
	return 0;
}

int track_find_open(const struct track *t, uint64_t start, uint64_t end, struct page_ranges *out,
		    struct err *err)
{
	struct page_ranges open = {0};
	int r;

	if (t->sees_holes)
		return scan_open(t, start, end, out, err);
	r = scan_open(t, start, end, &open, err);
	if (r == 0)
		r = track_add_holes(t, start, end, &open, out, err);
	page_ranges_release(&open);
	return r;
}

/* ---- protecting ---- */

#define UNWANTED (PAGE_IS_FILE | PAGE_IS_PFNZERO)

static long protect_call(const struct track *t, uint64_t unwanted, struct page_region *region,
			 struct pm_scan_arg *arg)
{
	uint64_t start = arg->start, end = arg->end;

	*arg = (struct pm_scan_arg){
		.size = sizeof(*arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)region,
		.vec_len = REGIONS,
		.max_pages = STEP_PAGES,
		.category_inverted = unwanted,
		.category_mask = PAGE_IS_WRITTEN | unwanted,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_WRITTEN,
	};
	return ioctl(t->pagemap_fd, PAGEMAP_SCAN, arg);
}

/* A kernel without guard pages does not know their category. */
static long protect_some(const struct track *t, struct page_region *region, struct pm_scan_arg *arg)
{
	long n = protect_call(t, UNWANTED | PAGE_IS_GUARD, region, arg);

	return n < 0 && errno == EINVAL ? protect_call(t, UNWANTED, region, arg) : n;
}

/* A call that fails (a mapping has gone, or is another one) may have protected some of it: then
 * nothing is known of any of it. */
static int protect(struct track *t, uint64_t start, uint64_t end, struct err *err)
{
	struct page_region region[REGIONS];

	while (start < end) {
		struct pm_scan_arg arg = {.start = start, .end = end};
		long n = protect_some(t, region, &arg);

		if (n < 0 || arg.walk_end <= start) {
			log_debug("%#lx-%#lx cannot be protected: %s", (unsigned long)start,
				  (unsigned long)end, strerror(errno));
			arg.walk_end = end;
			n = 0;
		}
		if (add_regions(&t->dirty, region, n) < 0 ||
		    page_known_set(&t->known, start, arg.walk_end - start, PAGE_UNKNOWN) < 0)
			return err_nomem(err);
		start = arg.walk_end;
		if (end - start > STEP)
			track_pause();
	}
	return 0;
}

static int protect_open(struct track *t, const struct page_ranges *open, struct err *err)
{
	int r = 0;

	t->dirty.n = 0;
	t->dirty.bytes = 0;
	for (size_t i = 0; i < open->n && r == 0; i++)
		r = protect(t, open->r[i].addr, open->r[i].addr + open->r[i].len, err);
	return r;
}

int track_protect_open(struct track *t, struct err *err)
{
	return protect_open(t, &t->open, err);
}

/* What is not watched any more, though it was a moment ago, may be anything. */
static int find_in_span(const struct track *t, const struct page_range *span,
			struct page_ranges *open, struct err *err)
{
	struct page_ranges found = {0};
	int r = track_find_open(t, span->addr, span->addr + span->len, &found, err);

	if (r == -EPERM) {
		found.n = 0;
		r = page_ranges_add(&found, span->addr, span->addr + span->len);
	}
	for (size_t i = 0; i < found.n && r == 0; i++)
		r = page_ranges_add(open, found.r[i].addr, found.r[i].addr + found.r[i].len);
	page_ranges_release(&found);
	return r == -ENOMEM ? err_nomem(err) : r;
}

int track_mark(struct track *t, uint64_t *ret_bytes, struct err *err)
{
	struct page_ranges open = {0};
	int r = track_open(t, err);

	for (size_t i = 0; i < t->span.n && r == 0; i++)
		r = find_in_span(t, &t->span.r[i], &open, err);
	if (r == 0)
		r = protect_open(t, &open, err);
	page_ranges_release(&open);
	if (r == 0)
		*ret_bytes = t->dirty.bytes;
	return r;
}

/* ---- the end ---- */

uint32_t track_early(const struct track *t)
{
	return t->early;
}

pid_t track_pid(const struct track *t)
{
	return t->pid;
}

void track_free(struct track *t)
{
	if (!t)
		return;
	cleanup_close(&t->uffd);
	cleanup_close(&t->dir);
	cleanup_close(&t->pagemap_fd);
	cleanup_close(&t->mem_fd);
	page_ranges_release(&t->span);
	page_ranges_release(&t->dirty);
	page_ranges_release(&t->open);
	page_ranges_release(&t->before);
	page_known_release(&t->known);
	aside_free(t->aside);
	free(t);
}
