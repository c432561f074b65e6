/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attributes of a process: umask, personality, dumpable, core dump filter, transparent huge pages, OOM score; and
 * of its threads: timer slack, parent-death signal, TSC mode. */
#include "subject.h"

#include <sys/personality.h>

static long read_number(const char *file)
{
	int fd = MUST(open(file, O_RDONLY));
	char buf[32] = "";

	MUST(read(fd, buf, sizeof(buf) - 1));
	close(fd);
	return strtol(buf, NULL, strstr(file, "filter") ? 16 : 10);
}

static void write_number(const char *file, long value)
{
	int fd = MUST(open(file, O_WRONLY)), n;
	char buf[32];

	n = snprintf(buf, sizeof(buf), "%ld", value);
	MUST(write(fd, buf, n));
	close(fd);
}

static mode_t get_umask(void)
{
	mode_t m = umask(0);

	umask(m);
	return m;
}

static void *thread(void *arg)
{
	MUST(prctl(PR_SET_TIMERSLACK, 123456));
	MUST(prctl(PR_SET_NAME, "second"));
	subject_wait();
	CHECK_EQ(prctl(PR_GET_TIMERSLACK), 123456);
	return NULL;
}

static int child(void *arg)
{
	int signo = 0;

	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	umask(0137);
	subject_child_ready();
	subject_wait();
	MUST(prctl(PR_GET_PDEATHSIG, &signo));
	CHECK_EQ(signo, SIGUSR2);
	CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	CHECK_EQ(get_umask(), 0137);
	return 0;
}

int main(int argc, char **argv)
{
	long oom;
	pthread_t t;
	pid_t pid;

	subject_init(argc, argv);
	umask(027);
	MUST(personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS));
	write_number("/proc/self/coredump_filter", 0x21);
	oom = read_number("/proc/self/oom_score_adj") + 117;
	oom = oom > 1000 ? 1000 : oom;
	write_number("/proc/self/oom_score_adj", oom);
	MUST(prctl(PR_SET_TIMERSLACK, 77777));
	t = subject_thread(thread, NULL);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK_EQ(get_umask(), 027);
	CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS);
	CHECK_EQ(read_number("/proc/self/coredump_filter"), 0x21);
	CHECK_EQ(read_number("/proc/self/oom_score_adj"), oom);
	CHECK_EQ(prctl(PR_GET_TIMERSLACK), 77777);
	CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	subject_join_thread(t);
	subject_join(pid);
	subject_pass();
}
