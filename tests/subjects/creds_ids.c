/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Real, effective and saved ids that differ, and supplementary groups: of the root's child and its threads. */
#include "subject.h"

#include <grp.h>
#include <sys/fsuid.h>

static void check(void)
{
	uid_t r, e, s;
	gid_t groups[8];

	MUST(getresuid(&r, &e, &s));
	CHECK_EQ(r, 1001);
	CHECK_EQ(e, 1002);
	CHECK_EQ(s, 1003);
	CHECK_EQ(setfsuid(-1), 1001);
	MUST(getresgid(&r, &e, &s));
	CHECK_EQ(r, 2001);
	CHECK_EQ(e, 2002);
	CHECK_EQ(s, 2003);
	CHECK_EQ(getgroups(8, groups), 3);
	CHECK_EQ(groups[0] + groups[1] + groups[2], 3001 + 3002 + 3003);
}

static void *thread(void *arg)
{
	setfsuid(1001);
	subject_wait();
	check();
	return NULL;
}

static int child(void *arg)
{
	gid_t groups[] = {3001, 3002, 3003};
	pthread_t t;

	MUST(setgroups(3, groups));
	MUST(setresgid(2001, 2002, 2003));
	MUST(setresuid(1001, 1002, 1003));
	t = subject_thread(thread, NULL);
	setfsuid(1001);
	subject_child_ready();
	subject_wait();
	check();
	subject_join_thread(t);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	MUST(chmod(argv[1], 0777));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK_EQ(getuid(), 0);
	CHECK_EQ(geteuid(), 0);
	subject_join(pid);
	subject_pass();
}
