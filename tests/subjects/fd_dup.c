/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors that share one description (dup, fork) share its offset and flags; others of the same file do not. */
#include "subject.h"

static int fd, copy, apart;

static int child(void *arg)
{
	subject_child_ready();
	subject_wait();
	while (lseek(fd, 0, SEEK_CUR) != 150)
		subject_sleep_ms(1);
	MUST(lseek(fd, 200, SEEK_SET));
	MUST(fcntl(fd, F_SETFL, O_APPEND));
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	fd = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(fd, 1000));
	copy = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 150));
	apart = MUST(open(subject_path("file"), O_RDWR));
	MUST(lseek(fd, 100, SEEK_SET));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK_EQ(lseek(copy, 0, SEEK_CUR), 100);
	CHECK_EQ(lseek(apart, 0, SEEK_CUR), 0);
	CHECK_EQ(fcntl(copy, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFD), 0);
	MUST(lseek(copy, 150, SEEK_SET));
	subject_join(pid);
	CHECK_EQ(lseek(copy, 0, SEEK_CUR), 200);
	CHECK_EQ(fcntl(copy, F_GETFL) & O_APPEND, O_APPEND);
	CHECK_EQ(fcntl(apart, F_GETFL) & O_APPEND, 0);
	CHECK_EQ(lseek(apart, 0, SEEK_CUR), 0);
	subject_pass();
}
