/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two processes that share one address space (CLONE_VM without CLONE_THREAD). */
#include "subject.h"

static volatile int shared_word;

static int child(void *arg)
{
	while (shared_word != 2)
		sched_yield(), usleep(2000);
	shared_word = 3;
	return 0;
}

int main(int argc, char **argv)
{
	char *stack;
	pid_t pid;

	subject_init(argc, argv);
	stack = MUST(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	pid = MUST(clone(child, stack + 65536, CLONE_VM | SIGCHLD, NULL));
	shared_word = 1;
	subject_ready();
	subject_wait();
	CHECK_EQ(shared_word, 1);
	shared_word = 2;
	subject_join(pid);
	CHECK_EQ(shared_word, 3);
	subject_pass();
}
