/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resource limits, soft and hard, of the root and of a child that has lowered them further. */
#include "subject.h"

#include <sys/resource.h>

static struct rlimit before[16];

static void read_all(struct rlimit *r)
{
	for (int i = 0; i < 16; i++)
		MUST(getrlimit(i, &r[i]));
}

static void lower(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit r;

	MUST(getrlimit(resource, &r));
	r.rlim_max = hard < r.rlim_max ? hard : r.rlim_max;
	r.rlim_cur = soft < r.rlim_max ? soft : r.rlim_max;
	MUST(setrlimit(resource, &r));
}

static void check(void)
{
	struct rlimit after[16];

	read_all(after);
	for (int i = 0; i < 16; i++) {
		CHECK(before[i].rlim_cur == after[i].rlim_cur, "soft limit %d", i);
		CHECK(before[i].rlim_max == after[i].rlim_max, "hard limit %d", i);
	}
}

static int child(void *arg)
{
	lower(RLIMIT_NOFILE, 40, 50);
	lower(RLIMIT_CPU, 1000, 2000);
	lower(RLIMIT_AS, 1UL << 36, 1UL << 40);
	lower(RLIMIT_FSIZE, 1 << 20, 1 << 24);
	lower(RLIMIT_MEMLOCK, 0, 4096);
	read_all(before);
	subject_child_ready();
	subject_wait();
	check();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	lower(RLIMIT_NOFILE, 200, 300);
	lower(RLIMIT_CORE, 0, 1 << 20);
	lower(RLIMIT_STACK, 4 << 20, RLIM_INFINITY);
	lower(RLIMIT_SIGPENDING, 1000, 2000);
	read_all(before);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	check();
	subject_join(pid);
	subject_pass();
}
