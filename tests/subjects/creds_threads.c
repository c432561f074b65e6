/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Credentials are the thread's: one thread has given its own away by raw system calls. */
#include "subject.h"

static void *thread(void *arg)
{
	uid_t r, e, s;

	MUST(syscall(SYS_setresgid, 2001, 2001, 2001));
	MUST(syscall(SYS_setresuid, 1001, 1001, 1001));
	while (access(subject_path("go"), F_OK))
		subject_sleep_ms(3);
	MUST(getresuid(&r, &e, &s));
	CHECK_EQ(r, 1001);
	CHECK_EQ(e, 1001);
	CHECK_EQ(s, 1001);
	MUST(getresgid(&r, &e, &s));
	CHECK_EQ(e, 2001);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	MUST(chmod(argv[1], 0777));
	t = subject_thread(thread, NULL);
	subject_sleep_ms(20);
	subject_ready();
	subject_wait();
	CHECK_EQ(getuid(), 0);
	CHECK_EQ(getgid(), 0);
	subject_join_thread(t);
	subject_pass();
}
