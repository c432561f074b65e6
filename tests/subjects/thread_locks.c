/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locks of the C library in use: a mutex that is waited for, a condition, a process-shared semaphore. */
#include "subject.h"

#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turns, told;
static sem_t *sem;

static void *wants_mutex(void *arg)
{
	pthread_mutex_lock(&mutex);
	turns++;
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static void *wants_word(void *arg)
{
	pthread_mutex_lock(&guard);
	while (!told)
		pthread_cond_wait(&cond, &guard);
	told++;
	pthread_mutex_unlock(&guard);
	return NULL;
}

static int wants_semaphore(void *arg)
{
	subject_child_ready();
	CHECK_EQ(sem_wait(sem), 0);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t[4];
	pid_t pid;

	subject_init(argc, argv);
	sem = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	sem_init(sem, 1, 0);
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < 4; i++)
		t[i] = subject_thread(i < 2 ? wants_mutex : wants_word, NULL);
	pid = subject_fork(wants_semaphore, NULL);
	subject_sleep_ms(20);
	subject_ready();
	subject_wait();
	CHECK_EQ(turns, 0);
	pthread_mutex_unlock(&mutex);
	pthread_mutex_lock(&guard);
	told = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&guard);
	sem_post(sem);
	for (int i = 0; i < 4; i++)
		subject_join_thread(t[i]);
	CHECK_EQ(turns, 2);
	CHECK_EQ(told, 3);
	subject_join(pid);
	subject_pass();
}
