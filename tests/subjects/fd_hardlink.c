/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A deleted file whose other name is in another directory: unknown to the tree, or open in it; mapped too. */
#include "subject.h"

static ino_t ino(int fd)
{
	struct stat st;

	MUST(fstat(fd, &st));
	return st.st_ino;
}

/* Written as "name", lives on as elsewhere/deep/name, where nothing of the tree is. */
static int make(const char *name, const char *other)
{
	int fd = MUST(open(subject_path(name), O_CREAT | O_RDWR, 0600));

	MUST(write(fd, "content", 7));
	MUST(link(subject_path(name), subject_path(other)));
	MUST(unlink(subject_path(name)));
	return fd;
}

static void check(int fd, ino_t was, const char *other)
{
	char path[64], link[4400] = "", want[4400];
	struct stat st;

	CHECK_EQ(ino(fd), was);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 7);
	CHECK_EQ(write(fd, "!", 1), 1);
	MUST(stat(subject_path(other), &st));
	CHECK_EQ(st.st_size, 8);
	CHECK_EQ(st.st_nlink, 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(readlink(path, link, sizeof(link) - 1));
	snprintf(want, sizeof(want), "%s (deleted)", subject_path(strrchr(other, '/') + 1));
	CHECK(strcmp(link, want) == 0, "%s, not %s", link, want);
}

int main(int argc, char **argv)
{
	int hidden = -1, known, other;
	ino_t hidden_ino = 0, known_ino;
	char *map = NULL;

	subject_init(argc, argv);
	MUST(mkdir(subject_path("elsewhere"), 0700));
	MUST(mkdir(subject_path("elsewhere/deep"), 0700));
	if (geteuid() == 0) { /* only who may open it by its handle */
		hidden = make("hidden", "elsewhere/deep/hidden");
		hidden_ino = ino(hidden);
		map = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, hidden, 0));
	}
	known = make("known", "elsewhere/known");
	other = MUST(open(subject_path("elsewhere/known"), O_RDONLY));
	known_ino = ino(known);
	subject_ready();
	subject_wait();
	if (map) {
		CHECK(memcmp(map, "content", 7) == 0, "%.7s", map);
		check(hidden, hidden_ino, "elsewhere/deep/hidden");
		CHECK(map[7] == '!', "the mapping is of another file");
	}
	check(known, known_ino, "elsewhere/known");
	CHECK_EQ(ino(other), known_ino);
	subject_pass();
}
