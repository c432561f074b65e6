/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 200 tasks beside one another. */
#include "subject.h"

#define N 200

static int child(void *arg)
{
	pid_t self = getpid(), parent = getppid();

	subject_child_ready();
	while (!subject_is_go())
		subject_sleep_ms(50);
	CHECK_EQ(getpid(), self);
	CHECK_EQ(getppid(), parent);
	return (long)arg % 100;
}

int main(int argc, char **argv)
{
	pid_t pid[N];
	int i, status;

	subject_init(argc, argv);
	for (i = 0; i < N; i++)
		pid[i] = subject_fork(child, (void *)(long)i);
	subject_ready();
	subject_wait();
	for (i = 0; i < N; i++) {
		CHECK_EQ(waitpid(pid[i], &status, 0), pid[i]);
		CHECK_EQ(WEXITSTATUS(status), i % 100);
	}
	CHECK_EQ(waitpid(-1, &status, 0), -1);
	CHECK_EQ(errno, ECHILD);
	subject_pass();
}
