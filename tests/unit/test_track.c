/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Write tracking, on memory of this very process: whatever changes it, by a write or without one, is found, also on
 * kernels that do not tell of what has no page tables. */
#include "base/kabi.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define P     CPX_PAGE_SIZE
#define TABLE (2UL << 20)
#define SIZE  (8 * TABLE)

static uint8_t *map_at(void *at, size_t size, int flags)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* Begins at a page table of its own. */
static uint8_t *map_area(int advice)
{
	uint8_t *room = map_at(NULL, SIZE + TABLE, MAP_NORESERVE);
	uint8_t *p = (uint8_t *)ALIGN_UP((uintptr_t)room, TABLE);

	munmap(room, p - room);
	munmap(p + SIZE, room + TABLE - p);
	madvise(p, SIZE, advice);
	memset(p, 7, SIZE);
	return p;
}

static struct track *watch(void)
{
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | KABI_UFFD_USER_MODE_ONLY);
	struct track *t = NULL;
	struct err err = ERR_INIT;
	uint64_t bytes;

	if (uffd < 0 || track_new(getpid(), uffd, 1, &t, &err) < 0 || track_mark(t, &bytes, &err) < 0) {
		track_free(t);
		print_message("%s\n", err.msg);
		return NULL;
	}
	return t;
}

/* Which of the n stretches of `size` from `at` on are wholly open: '1', wholly not: '0', else '?'. */
static void check_open(const struct track *t, const uint8_t *at, size_t n, size_t size, const char *expected)
{
	struct page_ranges open = {0};
	struct err err = ERR_INIT;
	char got[64] = "";

	assert_int_equal(track_find_open(t, (uintptr_t)at, (uintptr_t)at + n * size, &open, &err), 0);
	for (size_t i = 0; i < n; i++) {
		uint64_t start = (uintptr_t)at + i * size, end = start + size;
		const struct page_range *r = page_range_at(&open, start);

		if (!r || r->addr >= end)
			got[i] = '0';
		else
			got[i] = r->addr <= start && end <= r->addr + r->len ? '1' : '?';
	}
	page_ranges_release(&open);
	assert_string_equal(got, expected);
}

static void given_back(int advice)
{
	uint8_t *p = map_area(advice);
	struct track *t = watch();

	if (!t)
		skip();
	check_open(t, p, 8, TABLE, "00000000");
	p[TABLE + 5 * P] = 1;
	check_open(t, p + TABLE, 8, P, "00000100");
	madvise(p + 2 * TABLE, TABLE, MADV_DONTNEED);
	madvise(p + 4 * TABLE, 2 * TABLE, MADV_DONTNEED);
	check_open(t, p, 8, TABLE, "0?101100");
	p[5 * TABLE] = 1;
	check_open(t, p, 8, TABLE, "0?101100");
	madvise(p + 7 * TABLE + P, P, MADV_DONTNEED);
	check_open(t, p + 7 * TABLE, 8, P, "01000000");
	track_free(t);
	munmap(p, SIZE);
}

static void moved(int advice)
{
	uint8_t *p = map_area(advice), *q = map_at(NULL, SIZE, MAP_NORESERVE);
	struct track *t = watch();
	struct page_ranges open = {0};
	struct err err = ERR_INIT;

	if (!t)
		skip();
	/* What stays behind is empty, and watched; what has moved is not. */
	assert_true(mremap(p, 2 * TABLE, 2 * TABLE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, q) == q);
	check_open(t, p, 8, TABLE, "11000000");
	assert_int_equal(track_find_open(t, (uintptr_t)q, (uintptr_t)q + P, &open, &err), -EPERM);
	/* Replaced, then watched again: no mark of former times is left. */
	assert_true(mremap(q, 2 * TABLE, 2 * TABLE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4 * TABLE) ==
		    p + 4 * TABLE);
	assert_int_equal(track_find_open(t, (uintptr_t)p, (uintptr_t)p + SIZE, &open, &err), -EPERM);
	open.n = 0;
	assert_int_equal(track_watch_new(t, &err), 0);
	page_ranges_release(&open);
	track_free(t);
	munmap(p, SIZE);
	munmap(q, SIZE);
}

static void test_given_back(void **state)
{
	given_back(MADV_NOHUGEPAGE);
	given_back(MADV_HUGEPAGE);
}

static void test_moved(void **state)
{
	moved(MADV_NOHUGEPAGE);
	moved(MADV_HUGEPAGE);
}

static int deny(void **state)
{
	return setenv("CPX_DENY", "pagemap_holes", 1);
}

static int allow(void **state)
{
	return unsetenv("CPX_DENY");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_back),
		cmocka_unit_test(test_moved),
		cmocka_unit_test_setup_teardown(test_given_back, deny, allow),
		cmocka_unit_test_setup_teardown(test_moved, deny, allow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
