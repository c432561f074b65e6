/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A leader that has exited while its threads live: in the root and in a child. */
#include "subject.h"

static pid_t child;
static pid_t tid[2];

static void check_leader(void)
{
	char line[64];

	subject_line("/proc/self/status", "State:", line, sizeof(line));
	CHECK(line[7] == 'Z', "leader: %s", line);
}

static void *lives(void *arg)
{
	long i = (long)arg;

	tid[i] = syscall(SYS_gettid);
	subject_await_state(getpid(), getpid(), 'Z');
	subject_child_ready();
	subject_wait();
	check_leader();
	CHECK_EQ(syscall(SYS_gettid), tid[i]);
	exit(0);
}

static int parent_of_threads(void *arg)
{
	subject_thread(lives, (void *)0L);
	pthread_exit(NULL);
}

static void *lives_in_root(void *arg)
{
	tid[1] = syscall(SYS_gettid);
	subject_await_state(getpid(), getpid(), 'Z');
	subject_ready();
	subject_wait();
	check_leader();
	CHECK_EQ(syscall(SYS_gettid), tid[1]);
	subject_join(child);
	subject_pass();
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	child = subject_fork(parent_of_threads, NULL);
	subject_thread(lives_in_root, NULL);
	pthread_exit(NULL);
}
