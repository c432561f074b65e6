/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Deleted directories: open, one in the other, as working directory (of two tasks), with its name taken. */
#include "subject.h"

#include <dirent.h>

static void check_dead(int dir, mode_t mode, const char *name)
{
	char path[64], link[4400] = "", want[4400];
	struct stat st;

	MUST(fstat(dir, &st));
	CHECK_EQ(st.st_mode, S_IFDIR | mode);
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(openat(dir, "new", O_CREAT | O_WRONLY, 0600), -1);
	CHECK_EQ(errno, ENOENT);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	MUST(readlink(path, link, sizeof(link) - 1));
	snprintf(want, sizeof(want), "%s (deleted)", subject_path(name));
	CHECK(!name[0] || strcmp(link, want) == 0, "%s, not %s", link, want);
}

/* In a deleted working directory, whose parent can still be reached. */
static void check_cwd(void)
{
	char cwd[4096];

	CHECK(!getcwd(cwd, sizeof(cwd)) && errno == ENOENT, "a working directory: %s", cwd);
	CHECK_EQ(open("new", O_CREAT | O_WRONLY, 0600), -1);
	CHECK_EQ(errno, ENOENT);
	CHECK_EQ(access("../ready", F_OK), 0);
}

static int child(void *arg)
{
	subject_child_ready();
	subject_wait();
	check_cwd();
	return 0;
}

static int to_jailed[2];

/* In a deleted root directory: hears of the end by a pipe. */
static int jailed(void *arg)
{
	char c;

	close(to_jailed[1]);
	MUST(chroot("."));
	subject_child_ready();
	CHECK_EQ(read(to_jailed[0], &c, 1), 0);
	return open("/new", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT &&
			       access("/ready", F_OK) == -1
		       ? 0
		       : 1;
}

static int make(const char *name, mode_t mode)
{
	MUST(mkdir(subject_path(name), 0700));
	int dir = MUST(open(subject_path(name), O_RDONLY | O_DIRECTORY));

	MUST(fchmod(dir, mode));
	return dir;
}

int main(int argc, char **argv)
{
	int plain, outer, inner, taken, shared;
	struct stat a, b;
	pid_t pid, in_jail = 0;

	subject_init(argc, argv);
	plain = make("plain", 0750);
	MUST(rmdir(subject_path("plain")));
	outer = make("outer", 0700);
	inner = make("outer/inner", 0511);
	MUST(rmdir(subject_path("outer/inner")));
	MUST(rmdir(subject_path("outer")));
	taken = make("taken", 0700);
	MUST(rmdir(subject_path("taken")));
	MUST(mkdir(subject_path("taken"), 0700));
	close(MUST(open(subject_path("taken/precious"), O_CREAT | O_WRONLY, 0600)));
	shared = make("cwd", 0755);
	MUST(fchdir(shared));
	MUST(rmdir(subject_path("cwd")));
	pid = subject_fork(child, NULL);
	MUST(pipe2(to_jailed, O_CLOEXEC));
	if (geteuid() == 0)
		in_jail = subject_fork(jailed, NULL);
	subject_ready();
	subject_wait();
	check_dead(plain, 0750, "plain");
	check_dead(outer, 0700, "outer");
	check_dead(inner, 0511, "outer/inner");
	check_dead(taken, 0700, "");
	check_cwd();
	MUST(fstat(shared, &a));
	MUST(stat(".", &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_EQ(access(subject_path("taken/precious"), F_OK), 0);
	CHECK_EQ(access(subject_path("outer"), F_OK), -1);
	subject_join(pid);
	close(to_jailed[1]);
	if (in_jail)
		subject_join(in_jail);
	subject_pass();
}
