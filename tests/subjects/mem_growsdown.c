/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A mapping that grows down (MAP_GROWSDOWN), which is not the stack. */
#include "subject.h"

int main(int argc, char **argv)
{
	char *hole, *area;

	subject_init(argc, argv);
	hole = MUST(mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	MUST(munmap(hole, 64 << 20));
	area = MUST(mmap(hole + (48 << 20), 16 * 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0));
	subject_pattern(area, 16 * 4096, 1);
	area[-1] = 17; /* grows by a page */
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(area, 16 * 4096, 1), "content");
	CHECK_EQ(area[-1], 17);
	for (long i = 1; i < 100; i++)
		area[-i * 4096] = i;
	CHECK_EQ(area[-50 * 4096], 50);
	subject_pass();
}
