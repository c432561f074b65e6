/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Regular files: offset, access mode, O_APPEND, O_NONBLOCK, O_NOATIME, O_SYNC; writing goes on where it was. */
#include "subject.h"

static int open_file(const char *name, int flags)
{
	return MUST(open(subject_path(name), flags, 0600));
}

static void check_content(const char *name, const char *expected)
{
	char buf[64] = "";
	int fd = open_file(name, O_RDONLY);

	MUST(read(fd, buf, sizeof(buf) - 1));
	CHECK(strcmp(buf, expected) == 0, "%s holds '%s'", name, buf);
	close(fd);
}

int main(int argc, char **argv)
{
	int rw, append, reader, other, flags[3];
	char buf[4];

	subject_init(argc, argv);
	rw = open_file("rw", O_CREAT | O_RDWR | O_NONBLOCK);
	append = open_file("append", O_CREAT | O_WRONLY | O_APPEND | O_DSYNC);
	other = open_file("append", O_WRONLY | O_APPEND);
	MUST(write(rw, "0123456789", 10));
	MUST(lseek(rw, 4, SEEK_SET));
	MUST(write(append, "one ", 4));
	reader = open_file("rw", O_RDONLY | O_NOATIME);
	MUST(lseek(reader, 1L << 40, SEEK_SET));
	flags[0] = fcntl(rw, F_GETFL);
	flags[1] = fcntl(append, F_GETFL);
	flags[2] = fcntl(reader, F_GETFL);
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(rw, F_GETFL), flags[0]);
	CHECK_EQ(fcntl(append, F_GETFL), flags[1]);
	CHECK_EQ(fcntl(reader, F_GETFL), flags[2]);
	CHECK_EQ(lseek(rw, 0, SEEK_CUR), 4);
	CHECK_EQ(lseek(reader, 0, SEEK_CUR), 1L << 40);
	CHECK_EQ(read(rw, buf, 2), 2);
	CHECK(memcmp(buf, "45", 2) == 0, "read '%.2s'", buf);
	MUST(write(rw, "xy", 2));
	MUST(write(other, "two ", 4));
	MUST(write(append, "three", 5));
	check_content("rw", "012345xy89");
	check_content("append", "one two three");
	CHECK_EQ(write(reader, "x", 1), -1);
	subject_pass();
}
