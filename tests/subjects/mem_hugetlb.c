/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Huge pages of hugetlbfs: private and shared anonymous. */
#include "subject.h"

#define SIZE (2UL << 20)

int main(int argc, char **argv)
{
	char *private, *shared, line[64];

	subject_init(argc, argv);
	private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (private == MAP_FAILED || shared == MAP_FAILED)
		subject_skip("no huge pages: %s", strerror(errno));
	subject_pattern(private, SIZE, 51);
	subject_pattern(shared, SIZE, 52);
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(private, SIZE, 51), "private content");
	CHECK(subject_is_pattern(shared, SIZE, 52), "shared content");
	subject_line("/proc/self/smaps", "Private_Hugetlb:", line, sizeof(line));
	subject_pass();
}
