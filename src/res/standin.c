/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Short-lived processes that do one thing under the PID of somebody else: clone3(2) with set_tid.
 * What the kernel remembers of who did it is the number, also when the process is gone. To be used before the
 * tree has its tasks, whose numbers are free then.
 */
#include "res/sysvipc.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pid_t make(pid_t pid)
{
	struct clone_args a = {
		.exit_signal = SIGCHLD,
		.set_tid = pid ? (uintptr_t)&pid : 0,
		.set_tid_size = pid ? 1 : 0,
	};

	return syscall(SYS_clone3, &a, sizeof(a));
}

static int await(pid_t child)
{
	int status;

	while (waitpid(child, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

int stand_in_run(pid_t pid, int (*fn)(const void *arg), const void *arg)
{
	pid_t child = make(pid);

	if (child < 0 && pid)
		child = make(0);
	if (child < 0)
		return -errno;
	if (child == 0)
		_exit(-fn(arg));
	return await(child);
}
