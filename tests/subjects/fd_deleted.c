/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deleted but open files: their content, holes and mode; one shared by two descriptions; one with another link. */
#include "subject.h"

#define SIZE 300000

static int make_deleted(const char *name, int *ret_second)
{
	int fd = MUST(open(subject_path(name), O_CREAT | O_RDWR, 0640));
	char *content = malloc(SIZE);

	subject_pattern(content, SIZE, 4);
	CHECK_EQ(write(fd, content, SIZE), SIZE);
	free(content);
	if (ret_second)
		*ret_second = MUST(open(subject_path(name), O_RDONLY));
	MUST(unlink(subject_path(name)));
	return fd;
}

static void check_content(int fd)
{
	char *content = malloc(SIZE);

	CHECK_EQ(pread(fd, content, SIZE, 0), SIZE);
	CHECK(subject_is_pattern(content, SIZE, 4), "content");
	free(content);
}

int main(int argc, char **argv)
{
	int plain, first, second, sparse, linked;
	struct stat st;
	char c;

	subject_init(argc, argv);
	plain = make_deleted("plain", NULL);
	first = make_deleted("twice", &second);
	MUST(lseek(second, 10, SEEK_SET));
	sparse = make_deleted("sparse", NULL);
	MUST(ftruncate(sparse, 1L << 33));
	linked = MUST(open(subject_path("linked"), O_CREAT | O_RDWR, 0600));
	MUST(write(linked, "linked", 6));
	MUST(link(subject_path("linked"), subject_path("other link")));
	MUST(unlink(subject_path("linked")));
	subject_ready();
	subject_wait();
	check_content(plain);
	MUST(fstat(plain, &st));
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(st.st_mode & 0777, 0640);
	CHECK_EQ(lseek(plain, 0, SEEK_CUR), SIZE);
	check_content(first);
	check_content(second);
	CHECK_EQ(lseek(second, 0, SEEK_CUR), 10);
	MUST(pwrite(first, "Z", 1, 5));
	CHECK_EQ(pread(second, &c, 1, 5), 1);
	CHECK_EQ(c, 'Z');
	check_content(sparse);
	MUST(fstat(sparse, &st));
	CHECK_EQ(st.st_size, 1L << 33);
	CHECK(st.st_blocks < 4096, "no longer sparse: %ld blocks", (long)st.st_blocks);
	MUST(write(linked, "!", 1));
	MUST(stat(subject_path("other link"), &st));
	CHECK_EQ(st.st_size, 7);
	CHECK_EQ(access(subject_path("plain"), F_OK), -1);
	subject_pass();
}
