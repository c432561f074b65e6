/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locks of a child on a file that the parent has open too; a flock shared by fork. */
#include "subject.h"

#include <sys/file.h>

static int fd, shared;

static int child(void *arg)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4};

	MUST(fcntl(fd, F_SETLK, &l));
	subject_child_ready();
	while (access(subject_path("asked"), F_OK))
		subject_sleep_ms(2);
	return 0;
}

int main(int argc, char **argv)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
	int again;
	pid_t pid;

	subject_init(argc, argv);
	fd = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	shared = MUST(open(subject_path("shared"), O_CREAT | O_RDWR, 0600));
	MUST(flock(shared, LOCK_EX));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	MUST(fcntl(fd, F_GETLK, &l));
	CHECK_EQ(l.l_type, F_WRLCK);
	CHECK_EQ(l.l_pid, pid);
	CHECK_EQ(l.l_start, 3);
	CHECK_EQ(l.l_len, 4);
	close(shared); /* the child holds the description, and so the lock */
	again = MUST(open(subject_path("shared"), O_RDWR));
	CHECK_EQ(flock(again, LOCK_SH | LOCK_NB), -1);
	close(MUST(open(subject_path("asked"), O_CREAT | O_WRONLY, 0600)));
	subject_join(pid);
	CHECK_EQ(flock(again, LOCK_SH | LOCK_NB), 0);
	subject_pass();
}
