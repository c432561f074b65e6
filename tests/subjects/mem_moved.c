/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mappings that were moved, split, merged and shrunk, whose offsets fit nothing any more; forked too. */
#include "subject.h"

#define PAGE 4096UL
static char *a, *b;

static void check(void)
{
	CHECK(subject_is_pattern(a, 20 * PAGE, 1), "moved part");
	CHECK(subject_is_pattern(b, 10 * PAGE, 2), "lower part");
	CHECK(subject_is_pattern(b + 30 * PAGE, 10 * PAGE, 3), "upper part");
}

static int child(void *arg)
{
	subject_child_ready();
	subject_wait();
	check();
	return 0;
}

int main(int argc, char **argv)
{
	char *hole;
	pid_t pid;

	subject_init(argc, argv);
	b = MUST(mmap(NULL, 40 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	subject_pattern(b, 10 * PAGE, 2);
	subject_pattern(b + 10 * PAGE, 20 * PAGE, 1);
	subject_pattern(b + 30 * PAGE, 10 * PAGE, 3);
	hole = MUST(mmap(NULL, 100 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	a = MUST(mremap(b + 10 * PAGE, 20 * PAGE, 25 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole + 7 * PAGE));
	MUST(mremap(a, 25 * PAGE, 20 * PAGE, 0));
	MUST(mmap(b + 10 * PAGE, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	check();
	subject_join(pid);
	subject_pass();
}
