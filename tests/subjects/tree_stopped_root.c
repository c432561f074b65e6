/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The root itself is stopped, with three threads; it goes on when continued. A helper outside the stop
 * is not there, so the child continues it once told to go. */
#include "subject.h"

static int continues_parent(void *arg)
{
	pid_t parent = getppid();
	char path[64], line[64];

	snprintf(path, sizeof(path), "/proc/%d/status", parent);
	subject_child_ready();
	subject_await_state(parent, parent, 'T');
	subject_ready();
	subject_wait();
	subject_line(path, "State:", line, sizeof(line));
	CHECK(line[7] == 'T', "root is not stopped any more: %s", line);
	kill(parent, SIGCONT);
	return 0;
}

static void *counts(void *arg)
{
	subject_wait();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	pid_t child;

	subject_init(argc, argv);
	child = subject_fork(continues_parent, NULL);
	t[0] = subject_thread(counts, NULL);
	t[1] = subject_thread(counts, NULL);
	raise(SIGSTOP);
	CHECK(subject_is_go(), "went on before it was told to");
	subject_join_thread(t[0]);
	subject_join_thread(t[1]);
	subject_join(child);
	subject_pass();
}
