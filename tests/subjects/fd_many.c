/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 150 descriptors with holes between them, and one with a high number. */
#include "subject.h"

#define N 150

int main(int argc, char **argv)
{
	int fd, i;

	subject_init(argc, argv);
	for (i = 0; i < N; i++) {
		char name[16];

		snprintf(name, sizeof(name), "file%d", i);
		fd = MUST(open(subject_path(name), O_CREAT | O_RDWR, 0600));
		MUST(dup3(fd, 300 + i * 3, i % 2 ? O_CLOEXEC : 0));
		close(fd);
		MUST(lseek(300 + i * 3, i * 10, SEEK_SET));
	}
	MUST(dup2(300, 1023));
	close(0);
	subject_ready();
	subject_wait();
	for (i = 0; i < N; i++) {
		CHECK_EQ(lseek(300 + i * 3, 0, SEEK_CUR), i * 10);
		CHECK_EQ(fcntl(300 + i * 3, F_GETFD), i % 2 ? FD_CLOEXEC : 0);
		CHECK_EQ(fcntl(301 + i * 3, F_GETFD), -1);
	}
	MUST(lseek(300, 3, SEEK_SET));
	CHECK_EQ(lseek(1023, 0, SEEK_CUR), 3);
	CHECK_EQ(fcntl(0, F_GETFD), -1);
	CHECK_EQ(MUST(dup(1)), 0);
	subject_pass();
}
