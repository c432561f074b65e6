/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared mappings of a file, by two tasks: writes reach the file and one another. */
#include "subject.h"

#define SIZE (40 * 4096)
static char *map;

static int child(void *arg)
{
	subject_child_ready();
	while (map[0] != 'g')
		subject_sleep_ms(1);
	map[1] = 'h';
	return 0;
}

int main(int argc, char **argv)
{
	char byte, *readonly;
	pid_t pid;
	int fd;

	subject_init(argc, argv);
	fd = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(fd, SIZE));
	map = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	readonly = MUST(mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 4096));
	close(fd);
	subject_pattern(map + 4096, SIZE - 4096, 3);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(map + 4096, SIZE - 4096, 3), "content");
	map[0] = 'g';
	subject_join(pid);
	CHECK_EQ(map[1], 'h');
	map[5000] = 'm';
	CHECK_EQ(readonly[5000 - 4096], 'm');
	fd = MUST(open(subject_path("file"), O_RDONLY));
	CHECK_EQ(pread(fd, &byte, 1, 5000), 1);
	CHECK_EQ(byte, 'm');
	subject_pass();
}
