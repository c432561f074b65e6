/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A private file mapping written before and after a fork: each task has its own pages over the file's. */
#include "subject.h"

#define PAGES 16
static char *map;

static int child(void *arg)
{
	subject_pattern(map + 4096, 4096, 102);
	subject_child_ready();
	subject_wait();
	CHECK(subject_is_pattern(map, 4096, 101), "page written before the fork");
	CHECK(subject_is_pattern(map + 4096, 4096, 102), "own page");
	CHECK(subject_is_pattern(map + 8192, 4096, 2), "page of the file");
	return 0;
}

int main(int argc, char **argv)
{
	char page[4096];
	pid_t pid;
	int fd;

	subject_init(argc, argv);
	fd = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	for (int i = 0; i < PAGES; i++) {
		subject_pattern(page, 4096, i);
		MUST(write(fd, page, 4096));
	}
	map = MUST(mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	close(fd);
	subject_pattern(map, 4096, 101);
	pid = subject_fork(child, NULL);
	subject_pattern(map + 8192, 4096, 103);
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(map, 4096, 101), "page written before the fork");
	CHECK(subject_is_pattern(map + 4096, 4096, 1), "page that the child wrote");
	CHECK(subject_is_pattern(map + 8192, 4096, 103), "own page");
	subject_join(pid);
	subject_pass();
}
