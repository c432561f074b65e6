/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Restartable sequences: the registration made by the C library is there in every thread. */
#include "subject.h"

#include <sched.h>
#include <sys/rseq.h>

static struct rseq *area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	MUST(sched_setaffinity(0, sizeof(set), &set));
}

/* The kernel must go on writing the CPU's number, and know the area when it is unregistered. */
static void check(void)
{
	cpu_set_t all;

	MUST(sched_getaffinity(0, sizeof(all), &all));
	for (int cpu = 0; cpu < 64; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		pin(cpu);
		subject_sleep_ms(1);
		CHECK_EQ(area()->cpu_id, cpu);
	}
	MUST(syscall(SYS_rseq, area(), __rseq_size < 32 ? 32 : __rseq_size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG));
}

static void *thread(void *arg)
{
	subject_wait();
	check();
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	if (!__rseq_size)
		subject_skip("the C library has not registered rseq");
	t = subject_thread(thread, NULL);
	subject_ready();
	subject_wait();
	check();
	subject_join_thread(t);
	subject_pass();
}
