/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 64 MiB of touched pages that are all zero: not in the image (its size is limited in the table). */
#include "subject.h"

#define SIZE (64UL << 20)

int main(int argc, char **argv)
{
	char *map;

	subject_init(argc, argv);
	map = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	memset(map, 1, SIZE);
	memset(map, 0, SIZE);
	map[SIZE / 2] = 1;
	subject_ready();
	subject_wait();
	for (size_t i = 0; i < SIZE; i += 512)
		CHECK(map[i] == (i == SIZE / 2), "byte %zu", i);
	subject_pass();
}
