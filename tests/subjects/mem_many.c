/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 10,000 mappings. */
#include "subject.h"

#define N 10000

int main(int argc, char **argv)
{
	char *map;

	subject_init(argc, argv);
	map = MUST(mmap(NULL, N * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (long i = 0; i < N; i++) {
		if (i % 10 == 0)
			*(long *)(map + i * 4096) = i + 1;
		if (i % 2)
			MUST(mprotect(map + i * 4096, 4096, PROT_READ));
	}
	subject_ready();
	subject_wait();
	for (long i = 0; i < N; i++)
		CHECK_EQ(*(long *)(map + i * 4096), i % 10 ? 0 : i + 1);
	subject_pass();
}
