/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files made with O_TMPFILE: content, holes, flags, a second description; they can still be given a name. */
#include "subject.h"

#define SIZE (1L << 32)

static void check_link(int fd, const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(linkat(AT_FDCWD, path, AT_FDCWD, subject_path(name), AT_SYMLINK_FOLLOW));
	MUST(stat(subject_path(name), &st));
	CHECK_EQ(st.st_nlink, 1);
	CHECK_EQ(st.st_size, SIZE + 3);
	CHECK_EQ(st.st_mode & 0777, 0640);
}

int main(int argc, char **argv)
{
	int fd, second, log, flags, log_flags;
	char buf[8] = "", path[64];
	struct stat st;

	subject_init(argc, argv);
	fd = open(subject_path(""), O_TMPFILE | O_RDWR, 0640);
	if (fd < 0)
		subject_skip("no O_TMPFILE here: %s", strerror(errno));
	MUST(fchmod(fd, 0640));
	MUST(pwrite(fd, "begin", 5, 0));
	MUST(pwrite(fd, "end", 3, SIZE));
	MUST(lseek(fd, 2, SEEK_SET));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	second = MUST(open(path, O_RDONLY));
	log = MUST(open(subject_path(""), O_TMPFILE | O_WRONLY | O_APPEND, 0600));
	MUST(write(log, "before", 6));
	flags = MUST(fcntl(fd, F_GETFL));
	log_flags = MUST(fcntl(log, F_GETFL));
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(fd, F_GETFL), flags);
	CHECK_EQ(fcntl(log, F_GETFL), log_flags);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 2);
	MUST(fstat(fd, &st));
	CHECK_EQ(st.st_nlink, 0);
	CHECK(st.st_blocks < 2048, "no longer sparse: %ld blocks", (long)st.st_blocks);
	CHECK_EQ(read(second, buf, 5), 5);
	CHECK(memcmp(buf, "begin", 5) == 0, "%.5s", buf);
	CHECK_EQ(pread(second, buf, 5, SIZE), 3);
	CHECK(memcmp(buf, "end", 3) == 0, "%.3s", buf);
	CHECK_EQ(write(log, "later", 5), 5);
	MUST(fstat(log, &st));
	CHECK_EQ(st.st_size, 11);
	check_link(fd, "named");
	subject_pass();
}
