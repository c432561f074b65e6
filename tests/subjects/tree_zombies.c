/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Zombies with exit codes and signals, below the root and below a child. */
#include "subject.h"

#define N 6
static const int ends_by_signal[N] = {0, 0, SIGKILL, SIGTERM, SIGUSR1, 0};
static const int exit_code[N] = {0, 1, 0, 0, 0, 255};

static int end(void *arg)
{
	long i = (long)arg;

	subject_child_ready();
	if (ends_by_signal[i])
		raise(ends_by_signal[i]);
	return exit_code[i];
}

static void make_zombies(pid_t *pid)
{
	for (long i = 0; i < N; i++) {
		pid[i] = subject_fork(end, (void *)i);
		subject_await_state(pid[i], pid[i], 'Z');
	}
}

static void check_zombies(const pid_t *pid)
{
	siginfo_t si;
	int i, status;

	for (i = 0; i < N; i++) {
		MUST(waitid(P_PID, pid[i], &si, WEXITED | WNOWAIT | WNOHANG));
		CHECK_EQ(si.si_pid, pid[i]);
		CHECK_EQ(si.si_uid, getuid());
		CHECK_EQ(si.si_code, ends_by_signal[i] ? CLD_KILLED : CLD_EXITED);
		CHECK_EQ(waitpid(pid[i], &status, WNOHANG), pid[i]);
		if (ends_by_signal[i])
			CHECK(WIFSIGNALED(status) && WTERMSIG(status) == ends_by_signal[i], "0x%x", status);
		else
			CHECK(WIFEXITED(status) && WEXITSTATUS(status) == exit_code[i], "0x%x", status);
	}
}

static int parent(void *arg)
{
	pid_t pid[N];

	make_zombies(pid);
	subject_child_ready();
	subject_wait();
	check_zombies(pid);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid[N], child;

	subject_init(argc, argv);
	make_zombies(pid);
	child = subject_fork(parent, NULL);
	subject_ready();
	subject_wait();
	check_zombies(pid);
	subject_join(child);
	subject_pass();
}
