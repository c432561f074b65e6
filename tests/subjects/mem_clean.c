/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 32 MiB of a file, mapped and read but not written: not in the image (its size is limited in the table). */
#include "subject.h"

#define SIZE (32UL << 20)

int main(int argc, char **argv)
{
	char *private, *shared, *content;
	int fd;

	subject_init(argc, argv);
	fd = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	content = malloc(SIZE);
	subject_pattern(content, SIZE, 77);
	CHECK_EQ(write(fd, content, SIZE), SIZE);
	free(content);
	private = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	shared = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	close(fd);
	CHECK(subject_is_pattern(private, SIZE, 77) && subject_is_pattern(shared, SIZE, 77), "content");
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(private, SIZE, 77) && subject_is_pattern(shared, SIZE, 77), "content");
	subject_pass();
}
