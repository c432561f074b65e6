/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a process is called: comm of each thread, argv and environment (as rewritten), auxv, exe. */
#include "subject.h"

#include <sys/auxv.h>

static char cmdline[4096], environ_before[65536], auxv[4096], exe[4096];

static ssize_t slurp(const char *file, char *buf, size_t size)
{
	int fd = MUST(open(file, O_RDONLY));
	ssize_t n = MUST(read(fd, buf, size));

	close(fd);
	return n;
}

static void check_same(const char *file, const char *before, ssize_t len)
{
	static char now[65536];

	CHECK_EQ(slurp(file, now, sizeof(now)), len);
	CHECK(memcmp(now, before, len) == 0, "%s", file);
}

static void *thread(void *arg)
{
	char name[16];

	MUST(prctl(PR_SET_NAME, "other (name)"));
	subject_wait();
	MUST(prctl(PR_GET_NAME, name));
	CHECK(strcmp(name, "other (name)") == 0, "%s", name);
	return NULL;
}

int main(int argc, char **argv)
{
	ssize_t ncmd, nenv, nauxv;
	char name[16], now[4096] = "";
	pthread_t t;

	subject_init(argc, argv);
	memset(argv[0], 'z', strlen(argv[0]) - 3); /* as daemons do */
	MUST(prctl(PR_SET_NAME, "a\nb c"));
	t = subject_thread(thread, NULL);
	ncmd = slurp("/proc/self/cmdline", cmdline, sizeof(cmdline));
	nenv = slurp("/proc/self/environ", environ_before, sizeof(environ_before));
	nauxv = slurp("/proc/self/auxv", auxv, sizeof(auxv));
	MUST(readlink("/proc/self/exe", exe, sizeof(exe) - 1));
	subject_ready();
	subject_wait();
	check_same("/proc/self/cmdline", cmdline, ncmd);
	check_same("/proc/self/environ", environ_before, nenv);
	check_same("/proc/self/auxv", auxv, nauxv);
	MUST(readlink("/proc/self/exe", now, sizeof(now) - 1));
	CHECK(strcmp(now, exe) == 0, "%s", now);
	MUST(prctl(PR_GET_NAME, name));
	CHECK(strcmp(name, "a\nb c") == 0, "%s", name);
	CHECK_EQ(getauxval(AT_PAGESZ), 4096);
	subject_join_thread(t);
	subject_pass();
}
