/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parent-death signal is not only remembered: it comes when the parent ends after the restore. */
#include "subject.h"

static int fds[2];

static int grandchild(void *arg)
{
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	sigprocmask(SIG_BLOCK, &set, NULL);
	subject_child_ready();
	while (sigwaitinfo(&set, &si) != SIGUSR1)
		CHECK_EQ(errno, EINTR);
	CHECK(subject_is_go(), "the signal came although the parent lives");
	MUST(write(fds[1], "x", 1));
	return 0;
}

static int child(void *arg)
{
	subject_fork(grandchild, NULL);
	subject_child_ready();
	subject_wait();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;
	char c;

	subject_init(argc, argv);
	MUST(pipe(fds));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	subject_join(pid);
	close(fds[1]);
	CHECK_EQ(read(fds[0], &c, 1), 1);
	subject_pass();
}
