/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registrations of membarrier(2): those of a task with threads, a child's others, none where there were none. */
#include "subject.h"

#include <linux/membarrier.h>

static int barrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0) < 0 ? -errno : 0;
}

static void check(int private, int sync_core)
{
	CHECK_EQ(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED), private);
	CHECK_EQ(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE), sync_core);
}

/* Where the kernel tells (Linux 6.3). */
static void check_global(bool expected)
{
	int r = syscall(SYS_membarrier, 1 << 9 /* MEMBARRIER_CMD_GET_REGISTRATIONS */, 0, 0);

	if (r >= 0)
		CHECK_EQ(!!(r & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED), expected);
}

static int none(void *arg)
{
	check(-EPERM, -EPERM);
	subject_child_ready();
	subject_wait();
	check(-EPERM, -EPERM);
	check_global(false);
	return 0;
}

/* Of which the first kind is registered, though not to be used. */
static int only_sync_core(void *arg)
{
	MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0));
	check(-EPERM, 0);
	subject_child_ready();
	subject_wait();
	check(-EPERM, 0);
	check_global(false);
	return 0;
}

static void *thread(void *arg)
{
	subject_wait();
	check(0, -EPERM);
	return NULL;
}

int main(int argc, char **argv)
{
	pid_t a, b;
	pthread_t t;

	subject_init(argc, argv);
	if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) != -EPERM)
		subject_skip("this kernel has no membarrier(2) of this kind");
	a = subject_fork(none, NULL);
	b = subject_fork(only_sync_core, NULL);
	MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	MUST(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0));
	t = subject_thread(thread, NULL);
	subject_ready();
	subject_wait();
	check(0, -EPERM);
	check_global(true);
	subject_join_thread(t);
	subject_join(a);
	subject_join(b);
	subject_pass();
}
