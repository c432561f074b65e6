/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File locks: flock, POSIX, and those of an open file description, seen from another process. */
#include "subject.h"

#include <sys/file.h>

static int flocked, posix, ofd;

static bool is_locked(const char *name, int type, long start, long len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	int fd = MUST(open(subject_path(name), O_RDWR));

	MUST(fcntl(fd, F_OFD_GETLK, &l));
	close(fd);
	return l.l_type != F_UNLCK;
}

static int other_process(void *arg)
{
	int fd = MUST(open(subject_path("flocked"), O_RDWR));

	subject_child_ready();
	CHECK_EQ(flock(fd, LOCK_SH | LOCK_NB), -1);
	CHECK(is_locked("posix", F_RDLCK, 0, 10), "the written range");
	CHECK(!is_locked("posix", F_RDLCK, 20, 10), "the read range, for reading");
	CHECK(is_locked("posix", F_WRLCK, 20, 10), "the read range, for writing");
	CHECK(!is_locked("posix", F_WRLCK, 40, 60), "free range");
	CHECK(is_locked("posix", F_WRLCK, 100, 1), "to the end");
	CHECK(is_locked("ofd", F_WRLCK, 5, 1), "the description's lock");
	return 0;
}

static void lock(int fd, int command, int type, long start, long len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	MUST(fcntl(fd, command, &l));
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	flocked = MUST(open(subject_path("flocked"), O_CREAT | O_RDWR, 0600));
	posix = MUST(open(subject_path("posix"), O_CREAT | O_RDWR, 0600));
	ofd = MUST(open(subject_path("ofd"), O_CREAT | O_RDWR, 0600));
	MUST(flock(flocked, LOCK_EX));
	lock(posix, F_SETLK, F_WRLCK, 0, 10);
	lock(posix, F_SETLK, F_RDLCK, 20, 10);
	lock(posix, F_SETLK, F_WRLCK, 100, 0);
	lock(ofd, F_OFD_SETLK, F_WRLCK, 0, 0);
	subject_ready();
	subject_wait();
	subject_join(subject_fork(other_process, NULL));
	lock(posix, F_SETLK, F_UNLCK, 0, 0);
	MUST(flock(flocked, LOCK_UN));
	CHECK(!is_locked("posix", F_WRLCK, 0, 0), "unlocked");
	subject_pass();
}
