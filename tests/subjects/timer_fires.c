/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An ITIMER_REAL with an interval and an alarm in a child go off after the restore. */
#include "subject.h"

#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int signo)
{
	ticks++;
}

static int alarmed(void *arg)
{
	signal(SIGALRM, SIG_DFL);
	alarm(1);
	subject_child_ready();
	pause();
	return 1;
}

int main(int argc, char **argv)
{
	struct itimerval interval = {{0, 20000}, {0, 20000}};
	pid_t child;
	int status, before;

	subject_init(argc, argv);
	signal(SIGALRM, tick);
	child = subject_fork(alarmed, NULL);
	MUST(setitimer(ITIMER_REAL, &interval, NULL));
	subject_ready();
	subject_wait();
	before = ticks;
	while (ticks < before + 5)
		subject_sleep_ms(5);
	while (waitpid(child, &status, 0) < 0)
		CHECK_EQ(errno, EINTR);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM, "0x%x", status);
	subject_pass();
}
