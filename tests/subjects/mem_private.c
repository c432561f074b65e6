/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private anonymous mappings with all protections, holes, and pages touched here and there. */
#include "subject.h"

#define PAGES 512
static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
			    PROT_READ | PROT_WRITE | PROT_EXEC, PROT_EXEC, PROT_WRITE};
#define N (sizeof(prots) / sizeof(prots[0]))

static bool is_touched(int mapping, int page)
{
	return (page * 7 + mapping) % 5 < 2;
}

int main(int argc, char **argv)
{
	static const char zero[4096];
	char *map[N];

	subject_init(argc, argv);
	for (size_t m = 0; m < N; m++) {
		map[m] = MUST(mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
		for (int p = 0; p < PAGES; p++)
			if (is_touched(m, p))
				subject_pattern(map[m] + p * 4096, 4096, p + 1);
		MUST(munmap(map[m] + 100 * 4096, 4096 * 3));
		MUST(mprotect(map[m], 100 * 4096, prots[m]));
		MUST(mprotect(map[m] + 103 * 4096, (PAGES - 103) * 4096, prots[m]));
	}
	subject_ready();
	subject_wait();
	for (size_t m = 0; m < N; m++) {
		CHECK_EQ(msync(map[m] + 101 * 4096, 4096, MS_ASYNC), -1); /* still a hole */
		MUST(mprotect(map[m], 100 * 4096, PROT_READ));
		MUST(mprotect(map[m] + 103 * 4096, (PAGES - 103) * 4096, PROT_READ));
		for (int p = 0; p < PAGES; p++) {
			if (p >= 100 && p < 103)
				continue;
			CHECK(is_touched(m, p) ? subject_is_pattern(map[m] + p * 4096, 4096, p + 1)
					       : memcmp(map[m] + p * 4096, zero, 4096) == 0,
			      "mapping %zu, page %d", m, p);
		}
	}
	subject_pass();
}
