/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of write tracking, so that nobody waits for it. When a userfaultfd(2) is closed, the
 * kernel takes the protection off all pages of what is registered for WP, with mmap_lock held for
 * writing: 20 to 40 ms per GiB, protected or not, in which the task cannot map or unmap
 * (fs/userfaultfd.c, userfaultfd_clear_vma). So:
 *
 * 1. While the task runs the protection is taken off piece by piece (UFFDIO_WRITEPROTECT), with
 * mmap_lock held for reading and given back between two pieces.
 * 2. In a stop of the task it is made sure that no page is protected any more, which needs 0.5 ms
 * per GiB. Then its mappings, whole ones, are registered anew for MISSING in place of WP. The
 * kernel looks at no page for that, nor when the userfaultfd is closed at once after it.
 *
 * Should we die before, the kernel does it in its own way.
 */
#include "mem/pages.h"

#include "proc/proc.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <time.h>

#define PIECE (16UL << 20)

/* A lock that is taken again at once is not given to those who wait for it, for milliseconds
 * (kernel/locking/rwsem.c, RWSEM_WAIT_TIMEOUT). */
void track_pause(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void unprotect(const struct track *t, uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end; at += PIECE) {
		struct uffdio_writeprotect wp = {.range = {at, MIN(PIECE, end - at)}};

		ioctl(t->uffd, UFFDIO_WRITEPROTECT, &wp);
		if (end - start > PIECE)
			track_pause();
	}
}

/* All that is not open. -EPERM: it is not ours, or only a part of it. */
int track_unprotect(const struct track *t, uint64_t start, uint64_t end)
{
	struct page_ranges open = {0};
	int r = track_find_open(t, start, end, &open, NULL);

	for (size_t i = 0; i < open.n && r == 0; i++) {
		unprotect(t, start, open.r[i].addr);
		start = open.r[i].addr + open.r[i].len;
	}
	if (r == 0)
		unprotect(t, start, end);
	page_ranges_release(&open);
	return r;
}

static int for_all(struct track *t, void (*fn)(const struct track *t, uint64_t start, uint64_t end))
{
	struct proc_vmas maps = {0};
	int r = track_open(t, NULL);

	if (r == 0)
		r = proc_maps(t->dir, &maps, NULL);
	for (size_t i = 0; i < maps.n && r == 0; i++)
		if (track_may_watch(&maps.vma[i]) &&
		    track_watches(t, maps.vma[i].start, maps.vma[i].end))
			fn(t, maps.vma[i].start, maps.vma[i].end);
	proc_vmas_release(&maps);
	return r;
}

/* A mapping that changes just then is left for the stop. */
static void relax_mapping(const struct track *t, uint64_t start, uint64_t end)
{
	track_unprotect(t, start, end);
}

void track_relax(struct track *t)
{
	t->is_relaxed = for_all(t, relax_mapping) == 0;
}

/* What the kernel has forgotten to be watched may be protected still: see track.c. */
static void let_go(const struct track *t, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = {
		.range = {start, end - start},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (track_register(t, start, end) && track_unprotect(t, start, end) == 0)
		ioctl(t->uffd, UFFDIO_REGISTER, &reg);
}

void track_end(struct track *t)
{
	if (t->is_relaxed)
		for_all(t, let_go);
	cleanup_close(&t->uffd);
}
