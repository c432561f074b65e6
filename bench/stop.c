/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The least that a dump by ptrace(2) asks of each thread: that it stops and is let go again, and in between its
 * registers (general, xsave) and its signal mask. What can be known beforehand is: which threads there are.
 *
 * Usage: stop PID     prints the ns that it took for that process and all its descendants
 */
#include "bare.h"

#include <dirent.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define THREADS_MAX 65536
#define XSAVE_MAX   65536

struct threads {
	pid_t tid[THREADS_MAX];
	size_t n;
};

static void find_task(struct threads *all, pid_t pid);

static void find_children(struct threads *all, pid_t pid, pid_t tid)
{
	char path[64];
	pid_t child;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
	f = fopen(path, "r");
	if (!f)
		die(path);
	while (fscanf(f, "%d", &child) == 1)
		find_task(all, child);
	fclose(f);
}

static void find_task(struct threads *all, pid_t pid)
{
	struct dirent *d;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		die(path);
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		if (all->n == THREADS_MAX) {
			fprintf(stderr, "stop: too many threads\n");
			exit(1);
		}
		all->tid[all->n] = atoi(d->d_name);
		find_children(all, pid, all->tid[all->n++]);
	}
	closedir(dir);
}

static void check(long result, const char *what)
{
	if (result < 0)
		die(what);
}

static void read_registers(pid_t tid)
{
	static uint8_t general[1024], xsave[XSAVE_MAX];
	struct iovec g = {general, sizeof(general)}, x = {xsave, sizeof(xsave)};
	uint64_t mask;

	check(ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &g), "PTRACE_GETREGSET");
	check(ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &x), "PTRACE_GETREGSET");
	check(ptrace(PTRACE_GETSIGMASK, tid, sizeof(mask), &mask), "PTRACE_GETSIGMASK");
}

static void stop(const struct threads *all)
{
	int status;

	for (size_t i = 0; i < all->n; i++) {
		check(ptrace(PTRACE_SEIZE, all->tid[i], 0, 0), "PTRACE_SEIZE");
		check(ptrace(PTRACE_INTERRUPT, all->tid[i], 0, 0), "PTRACE_INTERRUPT");
	}
	for (size_t i = 0; i < all->n; i++)
		check(waitpid(all->tid[i], &status, __WALL), "waitpid");
	for (size_t i = 0; i < all->n; i++)
		read_registers(all->tid[i]);
	for (size_t i = 0; i < all->n; i++)
		check(ptrace(PTRACE_DETACH, all->tid[i], 0, 0), "PTRACE_DETACH");
}

int main(int argc, char **argv)
{
	static struct threads all;
	uint64_t start;

	if (argc != 2) {
		fprintf(stderr, "usage: stop PID\n");
		return 2;
	}
	find_task(&all, atoi(argv[1]));
	start = now_ns();
	stop(&all);
	printf("%lu\n", now_ns() - start);
}
