/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A service under the filters that systemd gives it for SystemCallFilter=@system-service (all else
 * kills), MemoryDenyWriteExecute= and RestrictNamespaces=.
 */
#include "subject.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define MAX_INSNS 128

struct program {
	struct sock_filter insn[MAX_INSNS];
	unsigned short n;
};

static void add(struct program *p, unsigned short code, unsigned k, unsigned char yes, unsigned char no)
{
	p->insn[p->n++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static void load(struct program *p, size_t at)
{
	add(p, BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
}

static void answer(struct program *p, unsigned k)
{
	add(p, BPF_RET | BPF_K, k, 0, 0);
}

static void install(const struct program *p)
{
	struct sock_fprog f = {p->n, (struct sock_filter *)p->insn};

	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f));
}

/* The numbers of @system-service (systemd-analyze syscall-filter) on x86-64. */
static const unsigned short service[][2] = {
	{0, 26},    {28, 100},	{102, 102}, {104, 133}, {135, 135}, {137, 138}, {140, 152},
	{157, 158}, {160, 160}, {162, 162}, {186, 211}, {213, 226}, {228, 235}, {237, 245},
	{247, 297}, {299, 299}, {302, 303}, {306, 312}, {314, 316}, {318, 319}, {322, 328},
	{332, 334}, {424, 427}, {434, 437}, {439, 441}, {449, 450},
};

static void install_service(void)
{
	struct program p = {.n = 0};

	load(&p, offsetof(struct seccomp_data, arch));
	add(&p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(&p, SECCOMP_RET_KILL_PROCESS);
	load(&p, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < sizeof(service) / sizeof(service[0]); i++) {
		add(&p, BPF_JMP | BPF_JGE | BPF_K, service[i][0], 0, 2);
		add(&p, BPF_JMP | BPF_JGT | BPF_K, service[i][1], 1, 0);
		answer(&p, SECCOMP_RET_ALLOW);
	}
	answer(&p, SECCOMP_RET_KILL_PROCESS);
	install(&p);
}

/* EPERM for a call with all of these bits in one of its arguments. */
static void install_denial(unsigned nr, unsigned arg, unsigned bits)
{
	struct program p = {.n = 0};

	load(&p, offsetof(struct seccomp_data, nr));
	add(&p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4);
	load(&p, offsetof(struct seccomp_data, args[arg]));
	add(&p, BPF_ALU | BPF_AND | BPF_K, bits, 0, 0);
	add(&p, BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1);
	answer(&p, SECCOMP_RET_ERRNO | EPERM);
	answer(&p, SECCOMP_RET_ALLOW);
	install(&p);
}

static volatile bool is_over;
static volatile unsigned long turns;

static void *work(void *arg)
{
	while (!is_over) {
		struct timespec t = {.tv_nsec = 500000};

		free(memset(malloc(100000), turns & 0xff, 100000));
		nanosleep(&t, NULL);
		turns++;
	}
	return NULL;
}

static void on_alarm(int signo)
{
}

/* modify_ldt(2) is not of @system-service. */
static void check_kill(void)
{
	pid_t pid = MUST(fork());
	int status;

	if (pid == 0) {
		syscall(SYS_modify_ldt, 0, NULL, 0);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(int argc, char **argv)
{
	unsigned long before;
	timer_t timer;
	pthread_t t;

	subject_init(argc, argv);
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	install_denial(SYS_mmap, 2, PROT_EXEC | PROT_WRITE);
	install_denial(SYS_mprotect, 2, PROT_EXEC);
	install_denial(SYS_clone, 0, CLONE_NEWUSER);
	install_service();
	signal(SIGALRM, on_alarm);
	MUST(timer_create(CLOCK_MONOTONIC, NULL, &timer));
	t = subject_thread(work, NULL);
	subject_ready();
	subject_wait();
	before = turns;
	while (turns < before + 3)
		subject_sleep_ms(1);
	CHECK(mmap(NULL, 4096, PROT_EXEC | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK_EQ(errno, EPERM);
	CHECK(syscall(SYS_clone, CLONE_NEWUSER, 0, 0, 0, 0) < 0);
	CHECK_EQ(errno, EPERM);
	check_kill();
	is_over = true;
	subject_join_thread(t);
	subject_pass();
}
