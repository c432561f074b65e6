/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a child has made of the memory that it was forked with: written to all of it, dropped all of it,
 * some of both; and its own child, which shares that with it and not with its parent. Who is forked
 * afterwards inherits all but what MADV_DONTFORK keeps back.
 */
#include "subject.h"

#define SIZE (3UL << 20)
#define HALF (SIZE / 2)

enum { REWRITTEN, DROPPED, MIXED, SHARED, OWN, MAPS };
static char *map[MAPS];

static void check_zero(const char *p, size_t len, const char *what)
{
	size_t i = 0;

	while (i < len && !p[i])
		i++;
	CHECK(i == len, "%s: byte %zu is %d", what, i, p[i]);
}

static void check_child(int seed)
{
	CHECK(subject_is_pattern(map[REWRITTEN], SIZE, seed), "what was rewritten");
	check_zero(map[DROPPED], SIZE, "dropped");
	CHECK(subject_is_pattern(map[MIXED], HALF, seed), "what was rewritten of what was dropped");
	check_zero(map[MIXED] + HALF, HALF, "half dropped");
	CHECK(subject_is_pattern(map[SHARED] + 4096, SIZE - 4096, SHARED), "what was not written to");
	CHECK_EQ(map[SHARED][0], seed);
}

static int grandchild(void *arg)
{
	map[SHARED][0] = 20;
	subject_pattern(map[MIXED], HALF, 20);
	subject_child_ready();
	subject_wait();
	CHECK(subject_is_pattern(map[REWRITTEN], SIZE, 10), "its parent's memory");
	subject_pattern(map[REWRITTEN], SIZE, 20);
	check_child(20);
	return 0;
}

static int child(void *arg)
{
	pid_t pid;

	subject_pattern(map[REWRITTEN], SIZE, 10);
	MUST(madvise(map[DROPPED], SIZE, MADV_DONTNEED));
	MUST(madvise(map[MIXED], SIZE, MADV_DONTNEED));
	subject_pattern(map[MIXED], HALF, 10);
	map[SHARED][0] = 10;
	pid = subject_fork(grandchild, NULL);
	subject_child_ready();
	subject_wait();
	check_child(10);
	subject_join(pid);
	check_child(10);
	return 0;
}

static int late_child(void *arg)
{
	unsigned char vec;

	for (int i = 0; i < OWN; i++)
		CHECK(subject_is_pattern(map[i] + 4096, SIZE - 4096, i), "mapping %d of a late child", i);
	CHECK(mincore(map[OWN], 4096, &vec) < 0 && errno == ENOMEM, "what is not for children");
	subject_child_ready();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	for (int i = 0; i < MAPS; i++) {
		/* Neighbours differ in a flag, or they would be one mapping. */
		map[i] = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | (i % 2 ? MAP_NORESERVE : 0), -1, 0));
		map[i][0] = i;
		subject_pattern(map[i] + 4096, SIZE - 4096, i);
	}
	MUST(madvise(map[OWN], SIZE, MADV_DONTFORK));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	for (int i = 0; i < MAPS; i++)
		CHECK(map[i][0] == i && subject_is_pattern(map[i] + 4096, SIZE - 4096, i),
		      "mapping %d of the parent", i);
	subject_join(pid);
	subject_join(subject_fork(late_child, NULL));
	subject_pass();
}
