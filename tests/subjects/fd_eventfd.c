/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* eventfd: counters from nothing to all, semaphores, flags, sharing, threads that wait for them. */
#include "subject.h"

#include <sys/eventfd.h>

#define FULL 0xfffffffffffffffeULL

static int empty, some, full, semaphore, copy, shared, wanted, crowded;

static uint64_t take(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

static void give(int fd, uint64_t v)
{
	CHECK_EQ(write(fd, &v, sizeof(v)), sizeof(v));
}

static void *reader(void *arg)
{
	CHECK_EQ(take(wanted), 77);
	return NULL;
}

static void *writer(void *arg)
{
	give(crowded, 5);
	return NULL;
}

static int child(void *arg)
{
	subject_child_ready();
	CHECK_EQ(take(shared), 9);
	give(some, 1);
	return 0;
}

static void await_sleepers(void)
{
	char path[64], line[256];

	for (int tid = getpid() + 1, n = 0; n < 2; tid++) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
		subject_line(path, "State:", line, sizeof(line));
		if (line[0])
			subject_await_state(getpid(), tid, 'S'), n++;
	}
}

int main(int argc, char **argv)
{
	pthread_t r, w;
	pid_t pid;

	subject_init(argc, argv);
	empty = MUST(eventfd(0, EFD_NONBLOCK));
	some = MUST(eventfd(0x1234, EFD_CLOEXEC | EFD_NONBLOCK));
	full = MUST(eventfd(0, EFD_NONBLOCK));
	give(full, FULL);
	semaphore = MUST(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK));
	copy = MUST(dup(semaphore));
	shared = MUST(eventfd(0, 0));
	wanted = MUST(eventfd(0, 0));
	crowded = MUST(eventfd(0, 0));
	give(crowded, FULL);
	r = subject_thread(reader, NULL);
	w = subject_thread(writer, NULL);
	await_sleepers();
	pid = subject_fork(child, NULL);
	subject_await_state(pid, pid, 'S');
	subject_ready();
	subject_wait();
	CHECK_EQ(take(empty), 0);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(fcntl(some, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
	CHECK_EQ(take(full), FULL);
	CHECK_EQ(take(full), 0);
	CHECK_EQ(take(semaphore), 1);
	CHECK_EQ(take(copy), 1);
	CHECK_EQ(take(semaphore), 1);
	CHECK_EQ(take(copy), 0);
	give(shared, 9);
	subject_join(pid);
	CHECK_EQ(take(some), 0x1235);
	give(wanted, 77);
	subject_join_thread(r);
	CHECK_EQ(take(crowded), FULL);
	subject_join_thread(w);
	CHECK_EQ(take(crowded), 5);
	subject_pass();
}
