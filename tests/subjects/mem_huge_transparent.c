/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Transparent huge pages, whole, split by a protection, and partly given back. */
#include "subject.h"

#define HUGE (2UL << 20)

int main(int argc, char **argv)
{
	char *area, *map;

	subject_init(argc, argv);
	area = MUST(mmap(NULL, 6 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	map = (char *)(((unsigned long)area + HUGE - 1) & ~(HUGE - 1));
	MUST(madvise(map, 4 * HUGE, MADV_HUGEPAGE));
	subject_pattern(map, 4 * HUGE, 61);
	MUST(mprotect(map + HUGE + 4096 * 5, 4096 * 3, PROT_NONE));
	MUST(madvise(map + 2 * HUGE, HUGE / 2, MADV_DONTNEED));
	subject_ready();
	subject_wait();
	MUST(mprotect(map + HUGE + 4096 * 5, 4096 * 3, PROT_READ));
	for (size_t i = 2 * HUGE; i < 2 * HUGE + HUGE / 2; i++)
		CHECK(map[i] == 0, "byte %zu", i);
	MUST(mprotect(map, 4 * HUGE, PROT_READ | PROT_WRITE));
	area = malloc(4 * HUGE);
	subject_pattern(area, 4 * HUGE, 61);
	memset(area + 2 * HUGE, 0, HUGE / 2);
	CHECK(memcmp(area, map, 4 * HUGE) == 0, "content");
	subject_pass();
}
