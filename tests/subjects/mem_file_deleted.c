/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mapped files that were deleted: one mapped shared (by two tasks), one mapped private. */
#include "subject.h"

#define SIZE (20 * 4096)
static char *shared, *private;

static char *map_deleted(const char *name, int flags, uint32_t seed)
{
	int fd = MUST(open(subject_path(name), O_CREAT | O_RDWR, 0600));
	char *p, *content = malloc(SIZE);

	subject_pattern(content, SIZE, seed);
	MUST(write(fd, content, SIZE));
	free(content);
	p = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0));
	close(fd);
	MUST(unlink(subject_path(name)));
	return p;
}

static int child(void *arg)
{
	subject_child_ready();
	while (shared[0] != 1)
		subject_sleep_ms(1);
	shared[1] = 2;
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	shared = map_deleted("shared", MAP_SHARED, 21);
	private = map_deleted("private", MAP_PRIVATE, 22);
	private[4096] = 'w';
	memset(shared, 0, 4096);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	shared[0] = 1;
	subject_join(pid);
	CHECK_EQ(shared[1], 2);
	CHECK_EQ(private[4096], 'w');
	CHECK(subject_is_pattern(private, 4096, 22), "private content");
	CHECK_EQ(access(subject_path("shared"), F_OK), -1);
	CHECK_EQ(access(subject_path("private"), F_OK), -1);
	subject_pass();
}
