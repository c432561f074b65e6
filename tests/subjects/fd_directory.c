/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Directories, read half-way, and O_PATH descriptors of a file and of a directory. */
#include "subject.h"

#include <dirent.h>

static int count_rest(DIR *d)
{
	int n = 0;

	while (readdir(d))
		n++;
	return n;
}

int main(int argc, char **argv)
{
	int dir, path_file, path_dir, rest, i;
	char name[16];
	DIR *d;

	subject_init(argc, argv);
	MUST(mkdir(subject_path("dir"), 0700));
	dir = MUST(open(subject_path("dir"), O_RDONLY | O_DIRECTORY));
	for (i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "entry%d", i);
		close(MUST(openat(dir, name, O_CREAT | O_WRONLY, 0600)));
	}
	d = opendir(subject_path("dir"));
	for (i = 0; i < 12; i++)
		readdir(d);
	seekdir(d, telldir(d));
	rest = 42 - 12;
	path_file = MUST(open(subject_path("dir/entry0"), O_PATH));
	path_dir = MUST(open(subject_path("dir"), O_PATH | O_CLOEXEC));
	subject_ready();
	subject_wait();
	CHECK_EQ(faccessat(dir, "entry39", F_OK, 0), 0);
	CHECK_EQ(count_rest(d), rest);
	CHECK_EQ(fcntl(path_file, F_GETFL) & O_PATH, O_PATH);
	CHECK_EQ(read(path_file, name, 1), -1);
	CHECK_EQ(errno, EBADF);
	CHECK_EQ(faccessat(path_dir, "entry1", F_OK, 0), 0);
	CHECK_EQ(fcntl(path_dir, F_GETFD), FD_CLOEXEC);
	subject_pass();
}
