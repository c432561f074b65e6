/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A child with threads that is stopped and continued all the time: whenever the dump comes, no stop is lost or seen twice. */
#include "subject.h"

static volatile unsigned long turns[3];

static void *count(void *arg)
{
	volatile unsigned long *n = arg;

	for (;; ++*n)
		subject_sleep_ms(1);
	return NULL;
}

static int child(void *arg)
{
	for (int i = 1; i < 3; i++)
		subject_thread(count, (void *)&turns[i]);
	subject_child_ready();
	count((void *)&turns[0]);
	return 0;
}

static void stop_and_continue(pid_t pid, int signo)
{
	int status;

	MUST(kill(pid, signo));
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == signo, "0x%x", status);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	MUST(kill(pid, SIGCONT));
}

static void check_runs(pid_t pid)
{
	int status;

	MUST(kill(pid, SIGKILL));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "0x%x", status);
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	pid = subject_fork(child, NULL);
	MUST(setpgid(pid, pid)); /* SIGTSTP does not stop an orphaned group */
	subject_ready();
	for (unsigned i = 0; !subject_is_go() || i < 100; i++)
		stop_and_continue(pid, i % 3 ? SIGSTOP : SIGTSTP);
	check_runs(pid);
	subject_pass();
}
