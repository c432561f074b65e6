/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bare primitive of a restore of many: tasks (or threads) that are cloned with numbers of the caller's choice, have
 * memory copied into them by UFFDIO_COPY, are stopped by ptrace, get registers, and are let go; all at the same time.
 *
 * Usage: regrow FILE TASKS MIB WORKERS     the memory is from the file, MIB at a time
 *        regrow - THREADS                  threads of one task, without memory, with their vector registers
 * Prints the ns of cloning, of copying, of stopping and setting registers, and of all.
 */
#include "bare.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE	    (1UL << 20)
#define TASKS_MAX   4000
#define WORKERS_MAX 64

struct regrow {
	size_t n, size; /* tasks; bytes of each */
	uint8_t *from, *to;
	size_t from_size;
	pid_t *pid;		 /* shared with the tasks */
	_Atomic int *uffd;	 /* the number of each task's own; shared, too */
	int taken[TASKS_MAX];
	_Atomic size_t next;
};

static void *map_new(size_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void futex(_Atomic int *word, int op, int value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

/* ---- cloning ---- */

/* The number may be taken, then the next one will do. */
static struct clone_args choose(uint64_t flags, pid_t *pid, long failed)
{
	if (failed && failed != -EEXIST) {
		errno = -failed;
		die("clone3");
	}
	*pid += !!failed;
	return (struct clone_args){.flags = flags, .set_tid = (uintptr_t)pid, .set_tid_size = 1};
}

/* Its pidfd; 0 in the task. */
static int clone_task(pid_t *pid)
{
	struct clone_args a;
	int pidfd = 0;
	long r = 0;

	do {
		a = choose(CLONE_PIDFD, pid, r);
		a.exit_signal = SIGCHLD;
		a.pidfd = (uintptr_t)&pidfd;
		r = syscall(SYS_clone3, &a, sizeof(a)) < 0 ? -errno : 0;
	} while (r < 0);
	return pidfd;
}

/* It only waits, and so it needs no stack, and must not return from anywhere. */
static void clone_thread(pid_t *pid)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	struct clone_args a;
	long r = 0;

	do {
		a = choose(flags, pid, r);
		r = SYS_clone3;
		__asm__ volatile("syscall; test %%rax, %%rax; jnz 2f\n1: mov $34, %%eax; syscall; jmp 1b\n2:"
				 : "+a"(r) : "D"(&a), "S"(sizeof(a)) : "rcx", "r11", "memory");
	} while (r < 0);
}

static int make_uffd(const struct regrow *g)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range = {(uintptr_t)g->to, g->size}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return fd;
}

static void be_task(const struct regrow *g, size_t i)
{
	atomic_store(&g->uffd[i], make_uffd(g));
	futex(&g->uffd[i], FUTEX_WAKE, 1);
	for (;;)
		pause();
}

static void clone_tasks(struct regrow *g)
{
	int pidfd[TASKS_MAX];

	for (size_t i = 0; i < g->n; i++) {
		g->pid[i] = i ? g->pid[i - 1] + 1 : g->pid[0];
		pidfd[i] = clone_task(&g->pid[i]);
		if (!pidfd[i])
			be_task(g, i);
	}
	for (size_t i = 0; i < g->n; i++) {
		while (!atomic_load(&g->uffd[i]))
			futex(&g->uffd[i], FUTEX_WAIT, 0);
		g->taken[i] = syscall(SYS_pidfd_getfd, pidfd[i], atomic_load(&g->uffd[i]), 0);
		if (g->taken[i] < 0)
			die("pidfd_getfd");
	}
}

/* In a task of their own, as no thread can trace its siblings. It says when they all are there. */
static void be_threads(struct regrow *g)
{
	for (size_t i = 0; i < g->n; i++) {
		g->pid[i] = i ? g->pid[i - 1] + 1 : g->pid[0];
		clone_thread(&g->pid[i]);
	}
	atomic_store(&g->uffd[0], 1);
	futex(&g->uffd[0], FUTEX_WAKE, 1);
	for (;;)
		pause();
}

static void clone_threads(struct regrow *g)
{
	pid_t host = fork();

	if (host < 0)
		die("fork");
	if (host == 0)
		be_threads(g);
	while (!atomic_load(&g->uffd[0]))
		futex(&g->uffd[0], FUTEX_WAIT, 0);
}

/* ---- copying ---- */

static void *copy(void *arg)
{
	struct regrow *g = arg;
	size_t pieces = g->size / PIECE, i;

	while ((i = atomic_fetch_add(&g->next, 1)) < g->n * pieces) {
		size_t at = i % pieces * PIECE, from = i * PIECE % g->from_size;
		struct uffdio_copy c = {(uintptr_t)g->to + at, (uintptr_t)g->from + from, PIECE, 0, 0};

		if (ioctl(g->taken[i / pieces], UFFDIO_COPY, &c))
			die("UFFDIO_COPY");
	}
	return NULL;
}

static void copy_all(struct regrow *g, unsigned workers)
{
	pthread_t id[WORKERS_MAX];

	for (unsigned i = 1; i < workers; i++)
		if (pthread_create(&id[i], NULL, copy, g))
			die("pthread_create");
	copy(g);
	for (unsigned i = 1; i < workers; i++)
		pthread_join(id[i], NULL);
	for (size_t i = 0; i < g->n; i++)
		close(g->taken[i]);
}

/* ---- registers ---- */

static void set_registers(pid_t pid)
{
	static uint8_t xstate[16384];
	struct user_regs_struct gp;
	struct iovec general = {&gp, sizeof(gp)}, extended = {xstate, sizeof(xstate)};
	uint64_t mask = 0;

	if (ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &general) || ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &general) ||
	    ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &extended) ||
	    ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &extended) || ptrace(PTRACE_SETSIGMASK, pid, sizeof(mask), &mask))
		die("registers");
}

static void trace_all(struct regrow *g)
{
	int status;

	for (size_t i = 0; i < g->n; i++)
		if (ptrace(PTRACE_SEIZE, g->pid[i], 0, PTRACE_O_EXITKILL) || ptrace(PTRACE_INTERRUPT, g->pid[i], 0, 0))
			die("PTRACE_SEIZE");
	for (size_t i = 0; i < g->n; i++) {
		if (waitpid(g->pid[i], &status, __WALL) != g->pid[i] || !WIFSTOPPED(status))
			die("waitpid");
		set_registers(g->pid[i]);
	}
	for (size_t i = 0; i < g->n; i++)
		if (ptrace(PTRACE_DETACH, g->pid[i], 0, 0))
			die("PTRACE_DETACH");
}

/* ---- all of it ---- */

static void open_source(struct regrow *g, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	g->from_size = st.st_size & ~(PIECE - 1);
	g->from = g->from_size ? mmap(NULL, g->from_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
	if (g->from == MAP_FAILED)
		die(path);
	close(fd);
	g->to = map_new(g->size, MAP_PRIVATE);
	madvise(g->to, g->size, MADV_NOHUGEPAGE);
}

static void end_all(const struct regrow *g)
{
	for (size_t i = 0; i < g->n; i++)
		kill(g->pid[i], SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0)
		;
}

int main(int argc, char **argv)
{
	static struct regrow g;
	unsigned workers = argc == 5 ? strtoul(argv[4], NULL, 10) : 1;
	uint64_t at[4];

	g.n = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
	if ((argc != 5 && argc != 3) || !g.n || g.n > TASKS_MAX || !workers || workers > WORKERS_MAX) {
		fprintf(stderr, "usage: regrow FILE TASKS MIB WORKERS | regrow - THREADS\n");
		return 2;
	}
	g.size = argc == 5 ? strtoul(argv[3], NULL, 10) * PIECE : 0;
	g.pid = map_new(g.n * sizeof(*g.pid), MAP_SHARED);
	g.uffd = map_new(g.n * sizeof(*g.uffd), MAP_SHARED);
	g.pid[0] = 300 + (getpid() + 1000) % 30000; /* if it is taken, the next one will do */
	if (g.size)
		open_source(&g, argv[1]);
	at[0] = now_ns();
	if (g.size)
		clone_tasks(&g);
	else
		clone_threads(&g);
	at[1] = now_ns();
	if (g.size)
		copy_all(&g, workers);
	at[2] = now_ns();
	trace_all(&g);
	at[3] = now_ns();
	printf("%lu %lu %lu %lu\n", at[1] - at[0], at[2] - at[1], at[3] - at[2], at[3] - at[0]);
	end_all(&g);
}
