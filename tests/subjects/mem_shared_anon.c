/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared anonymous memory of a parent, a child and a grandchild: writes are seen both ways afterwards. */
#include "subject.h"

#define SIZE (300 * 4096)
static char *map, *readonly;

static void await(volatile char *p, char value)
{
	int64_t end = subject_now_ms() + 10000;

	while (*p != value) {
		CHECK(subject_now_ms() < end, "byte %td stays %d, not %d", p - map, *p, value);
		subject_sleep_ms(1);
	}
}

static int child(void *arg)
{
	long depth = (long)arg;
	pid_t pid = 0;

	if (depth == 1)
		pid = subject_fork(child, (void *)2L);
	else
		MUST(munmap(map, 4096)); /* it has only a part */
	subject_child_ready();
	subject_wait();
	CHECK(subject_is_pattern(map + 8192, SIZE - 8192, 7), "content");
	await(map + 4096, 1);
	map[4096 + depth] = depth + 1;
	if (pid)
		subject_join(pid);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	map = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	subject_pattern(map + 8192, SIZE - 8192, 7);
	pid = subject_fork(child, (void *)1L);
	readonly = map + 8192;
	MUST(mprotect(readonly, 4096, PROT_READ));
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(map + 8192, SIZE - 8192, 7), "content");
	map[4096] = 1;
	await(map + 4097, 2);
	await(map + 4098, 3);
	subject_join(pid);
	subject_pass();
}
