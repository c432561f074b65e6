/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copy-on-write sharing between a parent and its children is kept: the parent's proportional share of the
 * memory (PSS) is as small after the restore as before, and writing separates them.
 */
#include "subject.h"

#define SIZE (24UL << 20)
static char *map;

static long pss_kb(void)
{
	char line[64];

	subject_line("/proc/self/smaps_rollup", "Pss:", line, sizeof(line));
	return atol(line + 4);
}

static int child(void *arg)
{
	long self = (long)arg;

	map[self * 4096] = 100 + self;
	subject_child_ready();
	subject_wait();
	CHECK_EQ(map[self * 4096], 100 + self);
	for (long i = 0; i < 3; i++)
		if (i != self)
			CHECK_EQ(map[i * 4096], 1);
	while (access(subject_path("measured"), F_OK))
		subject_sleep_ms(3);
	CHECK(subject_is_pattern(map + 4 * 4096, SIZE - 4 * 4096, 9), "content of child %ld", self);
	return 0;
}

int main(int argc, char **argv)
{
	long before, after;
	pid_t pid[3];

	subject_init(argc, argv);
	map = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	subject_pattern(map + 4 * 4096, SIZE - 4 * 4096, 9);
	for (int i = 0; i < 3; i++)
		map[i * 4096] = 1;
	for (long i = 0; i < 3; i++)
		pid[i] = subject_fork(child, (void *)i);
	before = pss_kb();
	CHECK(before < (long)(SIZE >> 10) / 2, "%ld kB before", before);
	subject_ready();
	subject_wait();
	after = pss_kb();
	CHECK(after < before + before / 5 + 1024, "PSS is %ld kB, was %ld kB: sharing is lost", after, before);
	close(MUST(open(subject_path("measured"), O_CREAT | O_WRONLY, 0600)));
	map[0] = 55;
	for (int i = 0; i < 3; i++)
		subject_join(pid[i]);
	CHECK_EQ(map[0], 55);
	subject_pass();
}
