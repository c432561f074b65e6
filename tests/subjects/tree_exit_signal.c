/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Children made with another exit signal than SIGCHLD, or with none. */
#include "subject.h"

static volatile sig_atomic_t got[65];

static void count(int signo)
{
	got[signo]++;
}

static pid_t clone_child(int exit_signal)
{
	pid_t pid = MUST(syscall(SYS_clone, exit_signal, NULL, NULL, NULL, 0));

	if (pid == 0) {
		subject_wait();
		_exit(3);
	}
	return pid;
}

static void check_child(pid_t pid, int flags)
{
	int status;

	CHECK_EQ(MUST(waitpid(pid, &status, flags)), pid);
	CHECK_EQ(WEXITSTATUS(status), 3);
}

int main(int argc, char **argv)
{
	pid_t silent, usr, normal;

	subject_init(argc, argv);
	signal(SIGUSR1, count);
	signal(SIGCHLD, count);
	silent = clone_child(0);
	usr = clone_child(SIGUSR1);
	normal = clone_child(SIGCHLD);
	subject_ready();
	subject_wait();
	check_child(silent, __WCLONE);
	check_child(usr, __WCLONE);
	check_child(normal, 0);
	CHECK_EQ(got[SIGUSR1], 1);
	CHECK_EQ(got[SIGCHLD], 1);
	subject_pass();
}
