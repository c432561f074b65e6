/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * More MADV_DONTFORK mappings than one batch has calls for, with holes between them, as in the heap of a JavaScript
 * engine; here and there another mapping among them, which a fork takes along. Their marks stay what they are.
 */
#include "subject.h"

#define ISLANDS 1500
#define SIZE	8192UL
#define STEP	(4 * SIZE)

static char *space;

static char *island(size_t i)
{
	return space + i * STEP;
}

static bool is_forked(size_t i)
{
	return i % 200 == 77;
}

/* One right behind an island, and one in a hole. */
static char *neighbour(size_t i)
{
	return island(i) + (i % 400 == 77 ? SIZE : 2 * SIZE);
}

static void make(void)
{
	space = MUST(mmap(NULL, ISLANDS * STEP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	MUST(munmap(space, ISLANDS * STEP));
	for (size_t i = 0; i < ISLANDS; i++) {
		MUST(mmap(island(i), SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
		MUST(madvise(island(i), SIZE, MADV_DONTFORK));
		subject_pattern(island(i), SIZE, i);
		if (!is_forked(i))
			continue;
		MUST(mmap(neighbour(i), SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
		subject_pattern(neighbour(i), SIZE, ISLANDS + i);
	}
}

static bool is_island(unsigned long start)
{
	unsigned long first = (unsigned long)space, behind = (unsigned long)island(ISLANDS);

	return start >= first && start < behind && (start - first) % STEP == 0;
}

/* All mappings, and which of them are marked. */
static void check_marks(void)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start = 0, a, b;
	size_t marked = 0;
	char line[512];

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
			start = a;
			CHECK(!is_island(start) || b - a == SIZE, "%s", line);
		} else if (strncmp(line, "VmFlags:", 8) == 0) {
			CHECK(!strstr(line, " dc") == !is_island(start), "%lx: %s", start, line);
			marked += is_island(start);
		}
	}
	fclose(f);
	CHECK_EQ(marked, ISLANDS);
}

static int forked(void *arg)
{
	unsigned char here;

	subject_child_ready();
	for (size_t i = 0; i < ISLANDS; i++) {
		CHECK(mincore(island(i), SIZE, &here) < 0 && errno == ENOMEM, "island %zu is here", i);
		if (is_forked(i))
			CHECK(subject_is_pattern(neighbour(i), SIZE, ISLANDS + i), "neighbour %zu", i);
	}
	return 0;
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	make();
	check_marks();
	subject_ready();
	subject_wait();
	check_marks();
	for (size_t i = 0; i < ISLANDS; i++) {
		CHECK(subject_is_pattern(island(i), SIZE, i), "island %zu", i);
		if (is_forked(i))
			CHECK(subject_is_pattern(neighbour(i), SIZE, ISLANDS + i), "neighbour %zu", i);
	}
	subject_join(subject_fork(forked, NULL));
	subject_pass();
}
