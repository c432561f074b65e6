/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stopped tasks: one whose stop the parent has seen, one whose stop it has still to see; one that is
 * stopped by another signal. All go on when told to. */
#include "subject.h"

static int counter(void *arg)
{
	subject_child_ready();
	subject_wait();
	return 0;
}

static pid_t stopped_child(int signo)
{
	pid_t pid = subject_fork(counter, NULL);

	MUST(setpgid(pid, pid)); /* SIGTSTP does not stop an orphaned group */
	kill(pid, signo);
	subject_await_state(pid, pid, 'T');
	return pid;
}

static void check_stopped(pid_t pid)
{
	char path[64], line[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	subject_line(path, "State:", line, sizeof(line));
	CHECK(line[7] == 'T', "%s", line);
}

int main(int argc, char **argv)
{
	pid_t seen, unseen, tty;
	int status;

	subject_init(argc, argv);
	seen = stopped_child(SIGSTOP);
	CHECK_EQ(waitpid(seen, &status, WUNTRACED), seen);
	unseen = stopped_child(SIGSTOP);
	tty = stopped_child(SIGTSTP);
	subject_ready();
	subject_wait();
	check_stopped(seen);
	check_stopped(unseen);
	check_stopped(tty);
	CHECK_EQ(waitpid(seen, &status, WUNTRACED | WNOHANG), 0);
	CHECK_EQ(waitpid(unseen, &status, WUNTRACED | WNOHANG), unseen);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "0x%x", status);
	CHECK_EQ(waitpid(tty, &status, WUNTRACED | WNOHANG), tty);
	CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP, "0x%x", status);
	kill(seen, SIGCONT);
	kill(unseen, SIGCONT);
	kill(tty, SIGCONT);
	subject_join(seen);
	subject_join(unseen);
	subject_join(tty);
	subject_pass();
}
