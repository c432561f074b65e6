/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Robust futex lists: a robust mutex whose owner ends after the restore tells the next one so. */
#include "subject.h"

#include <linux/futex.h>

static pthread_mutex_t *mutex;

static int owner(void *arg)
{
	pthread_mutex_lock(mutex);
	subject_child_ready();
	subject_wait();
	return 0; /* with the mutex held */
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attr;
	void *head, *same;
	size_t len, same_len;
	pid_t pid;

	subject_init(argc, argv);
	mutex = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attr);
	MUST(syscall(SYS_get_robust_list, 0, &head, &len));
	pid = subject_fork(owner, NULL);
	subject_ready();
	subject_wait();
	MUST(syscall(SYS_get_robust_list, 0, &same, &same_len));
	CHECK_EQ((long)same, (long)head);
	CHECK_EQ(same_len, len);
	CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(mutex), 0);
	subject_join(pid);
	subject_pass();
}
