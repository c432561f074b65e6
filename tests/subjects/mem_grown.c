/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A child whose heap, stack and a mapping have grown beyond what it got from its parent, with pages written on both
 * sides of the border: of one mapping, a part is the parent's and a part is not.
 */
#include "subject.h"

#define PART (1L << 20)
#define DEEP (512 << 10)
static char *heap, *map;

static void grow_by_a_part(void)
{
	CHECK(MUST(sbrk(PART)) == heap + PART, "the heap is not in one piece");
	MUST(mmap(map + PART, PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	subject_pattern(heap + PART / 2, PART, 3);
	subject_pattern(map + PART / 2, PART, 4);
}

static int child(void *arg)
{
	char deep[DEEP];

	subject_pattern(deep, sizeof(deep), 5);
	grow_by_a_part();
	subject_child_ready();
	subject_wait();
	CHECK(subject_is_pattern(deep, sizeof(deep), 5), "stack");
	CHECK(subject_is_pattern(heap, PART / 2, 1), "the parent's half of the heap");
	CHECK(subject_is_pattern(heap + PART / 2, PART, 3), "heap");
	CHECK(subject_is_pattern(map, PART / 2, 2), "the parent's half of the mapping");
	CHECK(subject_is_pattern(map + PART / 2, PART, 4), "mapping");
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	heap = MUST(sbrk(PART));
	map = MUST(mmap(NULL, 2 * PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	MUST(munmap(map + PART, PART));
	subject_pattern(heap, PART, 1);
	subject_pattern(map, PART, 2);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	subject_join(pid);
	CHECK(subject_is_pattern(heap, PART, 1), "the heap of the parent");
	CHECK(subject_is_pattern(map, PART, 2), "the mapping of the parent");
	subject_pass();
}
