/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Filters of tasks in odd states: stopped, a leader that has exited, asleep with a filter that kills for the
 * call to go on sleeping by, with memory shared by two processes. */
#include "subject.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static void filter(unsigned nr, unsigned answer)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof(f) / sizeof(f[0]), f};

	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
}

static void check(int error)
{
	CHECK(syscall(SYS_getppid) < 0);
	CHECK_EQ(errno, error);
}

static int stops(void *arg)
{
	filter(SYS_getppid, SECCOMP_RET_ERRNO | 101);
	subject_child_ready();
	raise(SIGSTOP);
	check(101);
	return 0;
}

static void *follower(void *arg)
{
	filter(SYS_getgid, SECCOMP_RET_ERRNO | 1);
	subject_await_state(getpid(), getpid(), 'Z');
	subject_child_ready();
	subject_wait();
	check(102);
	syscall(SYS_exit_group, 0);
	return NULL;
}

static int leads(void *arg)
{
	pthread_t t;

	filter(SYS_getppid, SECCOMP_RET_ERRNO | 102);
	pthread_create(&t, NULL, follower, NULL);
	syscall(SYS_exit, 0);
	return 1;
}

static int sleeps(void *arg)
{
	struct timespec t = {.tv_sec = 1000};

	filter(SYS_restart_syscall, SECCOMP_RET_KILL_PROCESS);
	filter(SYS_getppid, SECCOMP_RET_ERRNO | 103);
	subject_child_ready();
	syscall(SYS_nanosleep, &t, NULL);
	return 1;
}

static char stack[65536] __attribute__((aligned(16)));
static volatile bool is_ready;

static int shares(void *arg)
{
	filter(SYS_getppid, SECCOMP_RET_ERRNO | 104);
	is_ready = true;
	while (!subject_is_go())
		syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 4000000}, NULL);
	return syscall(SYS_getppid) < 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	pid_t stopped, led, asleep, shared;

	subject_init(argc, argv);
	stopped = subject_fork(stops, NULL);
	led = subject_fork(leads, NULL);
	asleep = subject_fork(sleeps, NULL);
	shared = MUST(clone(shares, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL));
	while (!is_ready)
		subject_sleep_ms(1);
	subject_await_state(stopped, stopped, 'T');
	subject_await_state(asleep, asleep, 'S');
	subject_ready();
	subject_wait();
	subject_await_state(stopped, stopped, 'T');
	MUST(kill(stopped, SIGCONT));
	subject_join(stopped);
	subject_join(led);
	subject_join(shared);
	CHECK_EQ(kill(asleep, SIGTERM), 0);
	MUST(waitpid(asleep, &(int){0}, 0));
	subject_pass();
}
