/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guard pages: between pages with data, in a mapping that a fork does not get, and of a child that has others than
 * its parent. */
#include "subject.h"

#include <setjmp.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

#define PAGES 8

static sigjmp_buf env;
static char *area, *unforked;

static void fault(int signo)
{
	siglongjmp(env, 1);
}

static bool can_read(volatile char *p)
{
	if (sigsetjmp(env, 1))
		return false;
	(void)*p;
	return true;
}

/* expected: a letter a page, 'g' for a guard page, 'd' for data, '0' for zeros. */
static void check(char *p, const char *expected)
{
	for (int i = 0; expected[i]; i++) {
		char *page = p + i * 4096;

		CHECK(can_read(page) == (expected[i] != 'g'), "page %d, expected %s", i, expected);
		if (expected[i] == 'd')
			CHECK(subject_is_pattern(page, 4096, i), "the content of page %d", i);
		if (expected[i] == '0')
			CHECK_EQ(*page, 0);
	}
}

static void guard(char *p, int first, int n)
{
	MUST(madvise(p + first * 4096, (size_t)n * 4096, MADV_GUARD_INSTALL));
}

static char *make(const char *name)
{
	char *p = MUST(mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	for (int i = 0; i < PAGES; i++)
		subject_pattern(p + i * 4096, 4096, i);
	return p;
}

static int child(void *arg)
{
	MUST(madvise(area + 4096, 4096, MADV_GUARD_REMOVE));
	guard(area, 6, 1);
	subject_child_ready();
	subject_wait();
	check(area, "d0gdddgd");
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	signal(SIGSEGV, fault);
	area = make("area");
	unforked = make("unforked");
	if (madvise(area + 4096, 2 * 4096, MADV_GUARD_INSTALL) < 0)
		subject_skip("this kernel has no guard pages");
	guard(unforked, 3, 1);
	MUST(madvise(unforked, PAGES * 4096, MADV_DONTFORK));
	pid = subject_fork(child, NULL);
	check(area, "dggddddd");
	subject_ready();
	subject_wait();
	check(area, "dggddddd");
	check(unforked, "dddgdddd");
	MUST(madvise(area, PAGES * 4096, MADV_GUARD_REMOVE));
	check(area, "d00ddddd");
	subject_join(pid);
	subject_pass();
}
