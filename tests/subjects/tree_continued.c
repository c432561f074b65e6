/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Children that have been stopped and continued: whose parent has still to wait for that, who has already, and with threads. */
#include "subject.h"

enum { PLAIN, THREADS, SEEN, NEVER, N };

static void *thread(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

static int child(void *arg)
{
	for (int i = 0; arg && i < 3; i++)
		subject_thread(thread, NULL);
	subject_child_ready();
	thread(NULL);
	return 0;
}

static void stop_and_continue(pid_t pid)
{
	int status;

	MUST(kill(pid, SIGSTOP));
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	MUST(kill(pid, SIGCONT));
	subject_await_state(pid, pid, 'S'); /* its SIGCHLD has come */
}

static void check_continued(pid_t pid, bool is)
{
	siginfo_t info = {0};

	MUST(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG));
	CHECK_EQ(info.si_pid, 0);
	MUST(waitid(P_PID, pid, &info, WCONTINUED | WNOHANG));
	CHECK_EQ(info.si_pid, is ? pid : 0);
	CHECK(!is || info.si_code == CLD_CONTINUED);
	info.si_pid = 0;
	MUST(waitid(P_PID, pid, &info, WCONTINUED | WNOHANG));
	CHECK_EQ(info.si_pid, 0);
}

static volatile int told;

static void on_chld(int signo)
{
	told++;
}

int main(int argc, char **argv)
{
	pid_t pid[N];
	int status;

	subject_init(argc, argv);
	for (long i = 0; i < N; i++)
		pid[i] = subject_fork(child, (void *)(long)(i == THREADS));
	for (int i = 0; i < NEVER; i++)
		stop_and_continue(pid[i]);
	CHECK_EQ(waitpid(pid[SEEN], &status, WCONTINUED), pid[SEEN]);
	signal(SIGCHLD, on_chld);
	subject_ready();
	subject_wait();
	CHECK_EQ(told, 0);
	for (int i = 0; i < N; i++) {
		check_continued(pid[i], i == PLAIN || i == THREADS);
		MUST(kill(pid[i], SIGKILL));
		CHECK_EQ(waitpid(pid[i], &status, 0), pid[i]);
		CHECK(WIFSIGNALED(status));
	}
	subject_pass();
}
