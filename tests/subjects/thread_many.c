/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 200 threads: TIDs, thread-local storage, stacks; joining them after the restore. */
#include "subject.h"

#define N 200
static __thread long local = 1;
static __thread char block[3000];
static pthread_barrier_t all;

static void *thread(void *arg)
{
	pid_t tid = syscall(SYS_gettid);
	char stack[2048];

	local = (long)arg;
	subject_pattern(block, sizeof(block), local);
	subject_pattern(stack, sizeof(stack), local + 1000);
	pthread_barrier_wait(&all);
	while (!subject_is_go())
		subject_sleep_ms(30);
	CHECK_EQ(syscall(SYS_gettid), tid);
	CHECK_EQ(local, (long)arg);
	CHECK(subject_is_pattern(block, sizeof(block), local), "TLS of thread %ld", local);
	CHECK(subject_is_pattern(stack, sizeof(stack), local + 1000), "stack of thread %ld", local);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[N];
	void *ret;
	long i;

	subject_init(argc, argv);
	pthread_barrier_init(&all, NULL, N + 1);
	for (i = 0; i < N; i++)
		t[i] = subject_thread(thread, (void *)i);
	pthread_barrier_wait(&all);
	subject_ready();
	subject_wait();
	for (i = 0; i < N; i++) {
		CHECK_EQ(pthread_join(t[i], &ret), 0);
		CHECK_EQ((long)ret, i);
	}
	CHECK_EQ(local, 1);
	subject_pass();
}
