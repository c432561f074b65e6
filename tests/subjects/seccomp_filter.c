/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Seccomp filters: some of the whole process, some of one thread, more of a child; every kind of
 * answer still given afterwards; and what is shared can still be synchronized.
 */
#include "subject.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/personality.h>
#include <sys/times.h>

/* `answer` for one call, whatever its arguments; or only for a first argument above `limit`. */
static long filter(unsigned flags, unsigned nr, unsigned limit, unsigned answer)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, limit, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof(f) / sizeof(f[0]), f};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static int error_of(long r)
{
	return r < 0 ? errno : 0;
}

static int count_filters(void)
{
	char line[64];

	subject_line("/proc/thread-self/status", "Seccomp_filters:", line, sizeof(line));
	return atoi(line + strlen("Seccomp_filters:"));
}

static void check_common(void)
{
	CHECK_EQ(error_of(syscall(SYS_getppid)), 111);
	CHECK_EQ(error_of(personality(0x7000000)), EPERM);
	CHECK_EQ(personality(0xffffffff) < 0, 1);
	CHECK(personality(0) >= 0);
}

static volatile bool may_end;

static void await_end(void)
{
	while (!may_end)
		subject_sleep_ms(1);
}

static void *with_own(void *arg)
{
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(filter(0, SYS_getuid, 0, SECCOMP_RET_ERRNO | 112));
	subject_wait();
	CHECK_EQ(count_filters(), 3);
	CHECK_EQ(error_of(syscall(SYS_getuid)), 112);
	check_common();
	await_end();
	return NULL;
}

static volatile int trapped;

static void on_trap(int signo, siginfo_t *info, void *context)
{
	trapped = info->si_syscall;
}

static void *with_trap(void *arg)
{
	struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

	MUST(sigaction(SIGSYS, &sa, NULL));
	MUST(filter(SECCOMP_FILTER_FLAG_LOG, SYS_getgid, 0, SECCOMP_RET_TRAP));
	MUST(filter(0, SYS_getegid, 0, SECCOMP_RET_LOG));
	subject_wait();
	CHECK_EQ(count_filters(), 4);
	syscall(SYS_getgid);
	CHECK_EQ(trapped, SYS_getgid);
	CHECK(syscall(SYS_getegid) >= 0);
	CHECK(syscall(SYS_getuid) >= 0);
	check_common();
	await_end();
	return NULL;
}

static volatile bool is_checked, is_synchronized;

static void *with_none(void *arg)
{
	subject_wait();
	CHECK_EQ(count_filters(), 4);
	is_checked = true;
	while (!is_synchronized)
		subject_sleep_ms(1);
	CHECK_EQ(count_filters(), 5);
	CHECK_EQ(error_of(syscall(SYS_getuid)), 114);
	return NULL;
}

/* A grandchild that calls times() is killed. */
static void check_kill(void)
{
	pid_t pid = MUST(fork());
	struct tms t;
	int status;

	if (pid == 0) {
		times(&t);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static int child(void *arg)
{
	pthread_t t;

	/* What the kernel goes on with after a stop amid a sleep. */
	MUST(filter(0, SYS_restart_syscall, 0, SECCOMP_RET_KILL_PROCESS));
	MUST(filter(SECCOMP_FILTER_FLAG_SPEC_ALLOW, SYS_times, 0, SECCOMP_RET_KILL_PROCESS));
	t = subject_thread(with_none, NULL);
	subject_child_ready();
	subject_wait();
	CHECK_EQ(count_filters(), 4);
	check_common();
	check_kill();
	while (!is_checked)
		subject_sleep_ms(1);
	/* Only if the thread has the very same filters. */
	CHECK_EQ(filter(SECCOMP_FILTER_FLAG_TSYNC, SYS_getuid, 0, SECCOMP_RET_ERRNO | 114), 0);
	is_synchronized = true;
	subject_join_thread(t);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t own, trap;
	pid_t pid;

	subject_init(argc, argv);
	MUST(filter(0, SYS_getppid, 0, SECCOMP_RET_ERRNO | 111));
	MUST(filter(0, SYS_personality, 0x1000000, SECCOMP_RET_ERRNO | EPERM));
	pid = subject_fork(child, NULL);
	own = subject_thread(with_own, NULL);
	trap = subject_thread(with_trap, NULL);
	subject_sleep_ms(20);
	subject_ready();
	subject_wait();
	CHECK_EQ(count_filters(), 2);
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	check_common();
	CHECK(syscall(SYS_getuid) >= 0);
	/* A thread's own stands against it, and is named. */
	CHECK(filter(SECCOMP_FILTER_FLAG_TSYNC, SYS_getgid, 0, SECCOMP_RET_ERRNO | 113) > 0);
	may_end = true;
	subject_join_thread(own);
	subject_join_thread(trap);
	subject_join(pid);
	subject_pass();
}
