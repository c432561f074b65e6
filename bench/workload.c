/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the benchmarks dump and restore: a tree of so many tasks, threads, mappings, descriptors and so much memory,
 * that is idle or writes. The first thread of the root ticks: it measures its longest gap between two ticks, says
 * when it runs again, and does the primitives that only this process can do, such as its own bare fork().
 *
 * Usage: workload CONTROL SCRATCH [NAME=VALUE]...
 *   mib=N fill=random|text|half   memory of each task
 *   tasks=N threads=N maps=N fds=N   of the tree; of the root
 *   rate=N|full|server            pages written in a second by a thread of its own; as many as it can; one for each
 *                                 10 us of work, as a server might
 */
#include "content.h"
#include "control.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RATE_FULL   UINT32_MAX
#define RATE_SERVER (UINT32_MAX - 1)
#define BURST	    64	  /* writes between two counts, without a rate */
#define WORK	    2500  /* rounds of a generator of random numbers, about 4 ns each */

struct options {
	size_t mib;
	enum fill fill;
	unsigned tasks, threads, maps, fds;
	uint32_t rate;
};

struct workload {
	struct options o;
	struct control *control;
	const char *scratch;
	struct memory memory;
	pid_t *child;
};

static struct control *control; /* for the handler of a signal */

static void sleep_us(uint32_t us)
{
	nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L}, NULL);
}

/* ---- what there is of it ---- */

static void *idle_thread(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void start_thread(void *(*run)(void *), void *arg)
{
	pthread_t id;

	if (pthread_create(&id, NULL, run, arg))
		die("pthread_create");
}

/* Neighbours differ in their protection, or the kernel would make one mapping of them. */
static void make_maps(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (at == MAP_FAILED)
			die("mmap");
		memcpy(at, &i, sizeof(i));
		if (i % 2 && mprotect(at, PAGE, PROT_READ))
			die("mprotect");
	}
}

/* A third each of files, pipes and eventfds. */
static void make_fds(unsigned count, const char *path)
{
	struct rlimit limit;
	int ends[2];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	for (unsigned i = 0; i < count; i += 6) {
		if (open(path, O_RDWR | O_CREAT, 0600) < 0 || open(path, O_RDONLY) < 0)
			die(path);
		if (pipe(ends) || eventfd(i, 0) < 0 || eventfd(i, EFD_NONBLOCK) < 0)
			die("descriptors");
	}
}

static void work(uint64_t *state)
{
	for (int i = 0; i < WORK; i++)
		random_next(state);
}

/* Random writes of eight bytes each, counted. */
static void *writing_thread(void *arg)
{
	struct workload *w = arg;
	uint64_t state = 1442695040888963407ULL, words = w->memory.size / 8, *at = (uint64_t *)w->memory.bytes;
	bool has_rate = w->o.rate < RATE_SERVER;
	uint32_t burst = has_rate ? w->o.rate / 100 : BURST;

	for (;;) {
		for (uint32_t i = 0; i < burst; i++) {
			if (w->o.rate == RATE_SERVER)
				work(&state);
			at[random_next(&state) % words]++;
		}
		atomic_fetch_add(&w->control->writes, burst);
		if (has_rate)
			sleep_us(10000);
	}
	return NULL;
}

static void make_memory(struct workload *w, unsigned task)
{
	w->memory = memory_new(w->o.mib, w->o.fill, task);
	atomic_fetch_add(&w->control->ready, 1);
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

static void fork_on_signal(int signo)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	atomic_fetch_add(&control->forked, 1);
	syscall(SYS_futex, &control->forked, FUTEX_WAKE, 1, NULL, NULL, 0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		_exit(signo);
}

static void make_tasks(struct workload *w)
{
	w->child = calloc(w->o.tasks + 1, sizeof(*w->child));
	if (!w->child)
		die("calloc");
	for (unsigned i = 1; i < w->o.tasks; i++) {
		w->child[i] = fork();
		if (w->child[i] < 0)
			die("fork");
		if (w->child[i] == 0) {
			signal(SIGUSR1, fork_on_signal);
			make_memory(w, i);
			idle_thread(NULL);
		}
	}
}

static void make_all(struct workload *w)
{
	make_tasks(w);
	for (unsigned i = 1; i < w->o.threads; i++)
		start_thread(idle_thread, NULL);
	make_maps(w->o.maps);
	make_fds(w->o.fds, w->scratch);
	make_memory(w, 0);
	if (w->o.rate)
		start_thread(writing_thread, w);
}

/* ---- what it is told, and ticks ---- */

/* Until all have returned from it. */
static uint64_t time_fork_all(struct workload *w)
{
	uint64_t start = now_ns();
	uint32_t forked;

	atomic_store(&control->forked, 0);
	for (unsigned i = 1; i < w->o.tasks; i++)
		kill(w->child[i], SIGUSR1);
	time_fork();
	while ((forked = atomic_load(&control->forked)) + 1 < w->o.tasks)
		syscall(SYS_futex, &control->forked, FUTEX_WAIT, forked, NULL, NULL, 0);
	return now_ns() - start;
}

static uint64_t save(const struct workload *w)
{
	uint64_t start = now_ns();
	pid_t pid = fork();

	if (pid == 0) {
		memory_write(&w->memory, w->scratch);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
	return now_ns() - start;
}

static uint64_t obey(struct workload *w, enum command command)
{
	uint32_t argument = atomic_load(&w->control->argument);

	switch (command) {
	case CMD_TOUCH:
		memory_touch(&w->memory);
		return 0;
	case CMD_FORK:
		return time_fork();
	case CMD_FORK_ALL:
		return time_fork_all(w);
	case CMD_WRITE:
		return memory_write(&w->memory, w->scratch);
	case CMD_SAVE:
		return save(w);
	case CMD_LZ4:
		return memory_lz4(&w->memory, argument);
	case CMD_DIRTY:
		memory_dirty(&w->memory, argument);
		return 0;
	default:
		return 0;
	}
}

static void say_started(struct control *c)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	atomic_store(&c->started_ns, t.tv_sec * 1000000000ULL + t.tv_nsec);
	atomic_store(&c->started, 1);
}

static void tick(struct workload *w)
{
	struct control *c = w->control;
	uint64_t last = now_ns();
	uint32_t generation = 0;

	for (;;) {
		enum command command = atomic_load(&c->command);
		uint64_t now = now_ns();

		if (generation != atomic_load(&c->generation)) {
			say_started(c);
			generation = atomic_load(&c->generation);
		}
		if (now - last > atomic_load(&c->gap_ns))
			atomic_store(&c->gap_ns, now - last);
		last = now;
		atomic_fetch_add(&c->ticks, 1);
		if (command != CMD_NONE) {
			atomic_store(&c->result_ns, obey(w, command));
			last = now_ns();
			atomic_store(&c->gap_ns, 0);
			atomic_store(&c->command, CMD_NONE);
		}
		sleep_us(atomic_load(&c->tick_us));
	}
}

/* ---- the command line ---- */

static enum fill parse_fill(const char *name)
{
	return !strcmp(name, "text") ? FILL_TEXT : !strcmp(name, "half") ? FILL_HALF : FILL_RANDOM;
}

static void parse(struct options *o, const char *argument)
{
	const char *value = strchr(argument, '=');
	size_t number = value ? strtoul(value + 1, NULL, 10) : 0;

	if (!value)
		die(argument);
	if (!strncmp(argument, "mib=", 4))
		o->mib = number;
	else if (!strncmp(argument, "fill=", 5))
		o->fill = parse_fill(value + 1);
	else if (!strncmp(argument, "tasks=", 6))
		o->tasks = number;
	else if (!strncmp(argument, "threads=", 8))
		o->threads = number;
	else if (!strncmp(argument, "maps=", 5))
		o->maps = number;
	else if (!strncmp(argument, "fds=", 4))
		o->fds = number;
	else if (!strncmp(argument, "rate=", 5))
		o->rate = !strcmp(value + 1, "full") ? RATE_FULL : !strcmp(value + 1, "server") ? RATE_SERVER : number;
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

int main(int argc, char **argv)
{
	struct workload w = {0};

	if (argc < 3) {
		fprintf(stderr, "usage: workload CONTROL SCRATCH [NAME=VALUE]...\n");
		return 2;
	}
	for (int i = 3; i < argc; i++)
		parse(&w.o, argv[i]);
	w.control = control = control_map(argv[1]);
	w.scratch = argv[2];
	make_all(&w);
	tick(&w);
}
