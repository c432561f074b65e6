/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The working directory of the root, of a child, and one deeper that a relative path needs. */
#include "subject.h"

static void check(const char *cwd)
{
	char now[4096];

	CHECK(getcwd(now, sizeof(now)), "%s", strerror(errno));
	CHECK(strcmp(cwd, now) == 0, "%s, not %s", now, cwd);
	CHECK_EQ(access("marker", F_OK), 0);
}

static int child(void *arg)
{
	char cwd[4096];

	MUST(mkdir("deeper", 0700));
	MUST(chdir("deeper"));
	close(MUST(open("marker", O_CREAT | O_WRONLY, 0600)));
	MUST(getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	subject_child_ready();
	subject_wait();
	check(cwd);
	return 0;
}

int main(int argc, char **argv)
{
	char cwd[4096];
	pid_t pid;

	subject_init(argc, argv);
	MUST(mkdir(subject_path("dir with space"), 0700));
	MUST(chdir(subject_path("dir with space")));
	close(MUST(open("marker", O_CREAT | O_WRONLY, 0600)));
	MUST(getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	check(cwd);
	subject_join(pid);
	subject_pass();
}
