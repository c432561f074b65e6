/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* madvise flags of mappings, as smaps shows them, and that they still act. */
#include "subject.h"

#define SIZE (4 * 4096)
static const int advice[] = {MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
			     MADV_SEQUENTIAL, MADV_RANDOM, MADV_MERGEABLE};
#define N (sizeof(advice) / sizeof(advice[0]))
static char *map[N], flags[N][128];

/* The VmFlags line of the mapping that starts at p. */
static void vm_flags(const char *p, char *buf, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	bool is_here = false;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	buf[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && !strncmp(line, start, strlen(start)))
			is_here = true;
		else if (is_here && !strncmp(line, "VmFlags:", 8)) {
			snprintf(buf, size, "%.120s", line);
			break;
		}
	}
	fclose(f);
}

static int forked(void *arg)
{
	static const char zero[SIZE];

	subject_child_ready();
	CHECK_EQ(msync(map[0], SIZE, MS_ASYNC), -1); /* DONTFORK: not here */
	CHECK(memcmp(map[2], zero, SIZE) == 0, "WIPEONFORK");
	CHECK(subject_is_pattern(map[1], SIZE, 1), "the others are");
	return 0;
}

int main(int argc, char **argv)
{
	char now[128], *space;

	subject_init(argc, argv);
	space = MUST(mmap(NULL, N * 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < N; i++) {
		map[i] = space + i * 2 * SIZE;
		MUST(mprotect(map[i], SIZE, PROT_READ | PROT_WRITE));
		if (madvise(map[i], SIZE, advice[i]) < 0)
			CHECK(errno == EINVAL, "advice %d", advice[i]); /* not in this kernel */
		subject_pattern(map[i], SIZE, i);
		vm_flags(map[i], flags[i], sizeof(flags[i]));
		CHECK(flags[i][0], "no VmFlags");
	}
	subject_ready();
	subject_wait();
	for (size_t i = 0; i < N; i++) {
		vm_flags(map[i], now, sizeof(now));
		CHECK(strcmp(now, flags[i]) == 0, "advice %d: %s, not %s", advice[i], now, flags[i]);
		CHECK(subject_is_pattern(map[i], SIZE, i), "content %zu", i);
	}
	subject_join(subject_fork(forked, NULL));
	subject_pass();
}
