/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Real-time policies and a negative nice value: only root may have them. */
#include "subject.h"

#include <sys/resource.h>

static void *fifo(void *arg)
{
	struct sched_param p = {.sched_priority = 11};

	if (sched_setscheduler(0, SCHED_FIFO, &p) < 0)
		subject_skip("SCHED_FIFO: %s", strerror(errno));
	subject_wait();
	MUST(sched_getparam(0, &p));
	CHECK_EQ(sched_getscheduler(0), SCHED_FIFO);
	CHECK_EQ(p.sched_priority, 11);
	return NULL;
}

static int rr(void *arg)
{
	struct sched_param p = {.sched_priority = 3};

	MUST(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &p));
	subject_child_ready();
	subject_wait();
	MUST(sched_getparam(0, &p));
	CHECK_EQ(sched_getscheduler(0), SCHED_RR | SCHED_RESET_ON_FORK);
	CHECK_EQ(p.sched_priority, 3);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t;
	pid_t pid;

	subject_init(argc, argv);
	MUST(setpriority(PRIO_PROCESS, 0, -5));
	t = subject_thread(fifo, NULL);
	subject_sleep_ms(20);
	pid = subject_fork(rr, NULL);
	subject_ready();
	subject_wait();
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), -5);
	subject_join_thread(t);
	subject_join(pid);
	subject_pass();
}
