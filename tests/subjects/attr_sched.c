/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scheduling of each thread: policy, nice value, CPU affinity, I/O priority. */
#include "subject.h"

#include <sys/resource.h>

struct sched {
	int policy, nice, ioprio;
	cpu_set_t cpus;
};

static struct sched get(void)
{
	struct sched s;

	memset(&s, 0, sizeof(s));
	s.policy = MUST(sched_getscheduler(0));
	errno = 0;
	s.nice = getpriority(PRIO_PROCESS, 0);
	s.ioprio = MUST(syscall(SYS_ioprio_get, 1, 0));
	MUST(sched_getaffinity(0, sizeof(s.cpus), &s.cpus));
	return s;
}

static void set(int policy, int nice_value, int ioprio, bool pin)
{
	struct sched_param none = {0};
	cpu_set_t cpus;
	int cpu = 0;

	MUST(sched_setscheduler(0, policy, &none));
	MUST(setpriority(PRIO_PROCESS, 0, nice_value));
	MUST(syscall(SYS_ioprio_set, 1, 0, ioprio));
	if (!pin)
		return;
	MUST(sched_getaffinity(0, sizeof(cpus), &cpus));
	while (!CPU_ISSET(cpu, &cpus))
		cpu++;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	MUST(sched_setaffinity(0, sizeof(cpus), &cpus));
}

static void wait_and_check(void)
{
	struct sched before = get(), after;

	subject_wait();
	after = get();
	CHECK_EQ(after.policy, before.policy);
	CHECK_EQ(after.nice, before.nice);
	CHECK_EQ(after.ioprio, before.ioprio);
	CHECK(CPU_EQUAL(&after.cpus, &before.cpus), "affinity");
}

static void *batch(void *arg)
{
	set(SCHED_BATCH, 7, 2 << 13 | 6, true);
	wait_and_check();
	return NULL;
}

static void *idle(void *arg)
{
	set(SCHED_IDLE, 19, 3 << 13, false);
	wait_and_check();
	return NULL;
}

static int child(void *arg)
{
	set(SCHED_OTHER | SCHED_RESET_ON_FORK, 12, 2 << 13 | 1, true);
	subject_child_ready();
	wait_and_check();
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t[2];
	pid_t pid;

	subject_init(argc, argv);
	pid = subject_fork(child, NULL);
	t[0] = subject_thread(batch, NULL);
	t[1] = subject_thread(idle, NULL);
	set(SCHED_OTHER, 3, 0, false);
	subject_sleep_ms(20);
	subject_ready();
	wait_and_check();
	subject_join_thread(t[0]);
	subject_join_thread(t[1]);
	subject_join(pid);
	subject_pass();
}
