/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A chain of 40 tasks, each the child of the one before: PIDs and parents. */
#include "subject.h"

static int link_of_chain(void *arg)
{
	long depth = (long)arg;
	pid_t self = getpid(), parent = getppid(), child = 0;

	if (depth < 40)
		child = subject_fork(link_of_chain, (void *)(depth + 1));
	subject_child_ready();
	subject_wait();
	CHECK_EQ(getpid(), self);
	CHECK_EQ(getppid(), parent);
	CHECK_EQ(syscall(SYS_gettid), self);
	if (child)
		subject_join(child);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t child;

	subject_init(argc, argv);
	child = subject_fork(link_of_chain, (void *)1L);
	subject_ready();
	subject_wait();
	subject_join(child);
	subject_pass();
}
