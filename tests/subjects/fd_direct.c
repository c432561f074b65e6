/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file opened with O_DIRECT still demands alignment. */
#include "subject.h"

int main(int argc, char **argv)
{
	char *buf;
	int fd;

	subject_init(argc, argv);
	fd = open(subject_path("file"), O_CREAT | O_RDWR | O_DIRECT, 0600);
	if (fd < 0)
		subject_skip("O_DIRECT: %s", strerror(errno));
	buf = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	subject_pattern(buf, 4096, 1);
	CHECK_EQ(write(fd, buf, 4096), 4096);
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(fd, F_GETFL) & O_DIRECT, O_DIRECT);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 4096);
	CHECK_EQ(pread(fd, buf + 4096, 4096, 0), 4096);
	CHECK(memcmp(buf, buf + 4096, 4096) == 0, "content");
	subject_pass();
}
