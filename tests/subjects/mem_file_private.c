/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private mappings of a file: written pages are ours, the others are the file's. */
#include "subject.h"

#define PAGES 64

static void make_file(const char *path)
{
	int fd = MUST(open(path, O_CREAT | O_RDWR, 0600));
	char page[4096];

	for (int i = 0; i < PAGES; i++) {
		subject_pattern(page, 4096, i);
		MUST(write(fd, page, 4096));
	}
	close(fd);
}

static void check(const char *map, int first, int pages)
{
	static const char zero[4096];

	for (int i = 0; i < pages; i++) {
		int page = first + i;
		const char *p = map + i * 4096;

		if (page % 7 == 3)
			CHECK(memcmp(p, zero, 4096) == 0, "page %d was overwritten with zeros", page);
		else if (page % 3 == 0)
			CHECK(subject_is_pattern(p, 4096, page + 1000), "written page %d", page);
		else
			CHECK(subject_is_pattern(p, 4096, page), "page %d of the file", page);
	}
}

static void change(char *map, int first, int pages)
{
	for (int i = 0; i < pages; i++) {
		int page = first + i;

		if (page % 7 == 3)
			memset(map + i * 4096, 0, 4096);
		else if (page % 3 == 0)
			subject_pattern(map + i * 4096, 4096, page + 1000);
	}
}

int main(int argc, char **argv)
{
	char *all, *part;
	int fd;

	subject_init(argc, argv);
	make_file(subject_path("file"));
	fd = MUST(open(subject_path("file"), O_RDONLY));
	all = MUST(mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	part = MUST(mmap(NULL, 10 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 20 * 4096));
	close(fd);
	change(all, 0, PAGES);
	change(part, 20, 10);
	MUST(mprotect(part, 10 * 4096, PROT_READ));
	subject_ready();
	subject_wait();
	check(all, 0, PAGES);
	check(part, 20, 10);
	subject_pass();
}
