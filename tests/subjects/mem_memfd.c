/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memfd: content, seals, name, offset; mapped shared and private; shared with a child. */
#include "subject.h"

#define SIZE (30 * 4096)
static int fd, sealed;
static char *map;

static int child(void *arg)
{
	subject_child_ready();
	subject_wait();
	CHECK_EQ(pwrite(fd, "child", 5, 100), 5);
	return 0;
}

int main(int argc, char **argv)
{
	char path[64], link[64] = "", *copy;
	pid_t pid;

	subject_init(argc, argv);
	fd = MUST(memfd_create("some name", MFD_CLOEXEC));
	MUST(ftruncate(fd, SIZE));
	map = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	subject_pattern(map + 4096, SIZE - 4096, 31);
	copy = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	copy[0] ^= 1;
	MUST(lseek(fd, 777, SEEK_SET));
	sealed = MUST(memfd_create("sealed", MFD_ALLOW_SEALING));
	MUST(write(sealed, "constant", 8));
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(map + 4096, SIZE - 4096, 31), "content");
	CHECK_EQ(copy[0] ^ 1, map[0]);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 777);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
	CHECK_EQ(fcntl(sealed, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	CHECK_EQ(write(sealed, "x", 1), -1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(readlink(path, link, sizeof(link) - 1) > 0 && !strncmp(link, "/memfd:some name", 16), "%s", link);
	subject_join(pid);
	CHECK(memcmp(map + 100, "child", 5) == 0, "write by the child");
	subject_pass();
}
