/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The target of the benchmarks: a process with so many MiB of touched memory that ticks, and measures
 * what only it can: its longest gap between two ticks, its own bare fork(), its own write().
 *
 * Usage: memory MIB CONTROL [SCRATCH-FILE]
 * CONTROL is a file of one page, mapped by the driver too: struct control.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096UL
#define PIECE (1UL << 20)

enum command { NOTHING, TOUCH, FORK, WRITE, RESET_GAP };

struct control { /* bench/run knows this layout */
	_Atomic uint32_t command; /* set by the driver, back to NOTHING when done */
	uint32_t is_ready;
	_Atomic uint64_t result_ns;
	_Atomic uint64_t gap_ns; /* the longest since RESET_GAP */
	_Atomic uint64_t ticks;
};

struct memory {
	uint8_t *bytes;
	size_t size;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Pages of 4 KiB, none of them zero or like another. */
static struct memory memory_new(size_t mib)
{
	struct memory m = {.size = mib << 20};
	uint64_t x = 88172645463325252ULL;

	m.bytes = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m.bytes == MAP_FAILED)
		die("mmap");
	madvise(m.bytes, m.size, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < m.size; i += sizeof(x)) {
		if (i % 64 < 32) { /* half of it random: compressible, but not by much */
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		memcpy(m.bytes + i, &x, sizeof(x));
	}
	return m;
}

/* Writes to every page, so that none is shared copy-on-write any more. */
static void touch(struct memory *m)
{
	for (size_t i = 0; i < m->size; i += PAGE)
		m->bytes[i]++;
}

static uint64_t time_fork(void)
{
	uint64_t start = now_ns(), taken;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	taken = now_ns() - start;
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
	return taken;
}

static uint64_t time_write(const struct memory *m, const char *path)
{
	uint64_t start = now_ns(), taken;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path);
	for (size_t i = 0; i < m->size; i += PIECE)
		if (write(fd, m->bytes + i, PIECE) != (ssize_t)PIECE)
			die("write");
	close(fd);
	taken = now_ns() - start;
	unlink(path);
	return taken;
}

static uint64_t obey(enum command command, struct memory *m, const char *scratch)
{
	switch (command) {
	case TOUCH:
		touch(m);
		return 0;
	case FORK:
		return time_fork();
	case WRITE:
		return time_write(m, scratch);
	default:
		return 0;
	}
}

static struct control *control_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct control *c = MAP_FAILED;

	if (fd >= 0)
		c = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		die(path);
	close(fd);
	return c;
}

static void tick(struct control *c, struct memory *m, const char *scratch)
{
	uint64_t last = now_ns();

	for (;;) {
		enum command command = atomic_load(&c->command);
		uint64_t now = now_ns();

		if (now - last > atomic_load(&c->gap_ns))
			atomic_store(&c->gap_ns, now - last);
		last = now;
		atomic_fetch_add(&c->ticks, 1);
		if (command != NOTHING) {
			atomic_store(&c->result_ns, obey(command, m, scratch));
			last = now_ns();
			atomic_store(&c->gap_ns, 0);
			atomic_store(&c->command, NOTHING);
		}
		nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
	}
}

int main(int argc, char **argv)
{
	struct memory m;
	struct control *c;

	if (argc < 3) {
		fprintf(stderr, "usage: memory MIB CONTROL [SCRATCH-FILE]\n");
		return 2;
	}
	c = control_map(argv[2]);
	m = memory_new(strtoul(argv[1], NULL, 10));
	c->is_ready = 1;
	tick(c, &m, argc > 3 ? argv[3] : "scratch");
}
