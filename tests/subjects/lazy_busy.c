// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For faults/lazy.py: threads that know what every page of theirs must hold, wait for the file START, and then
 * read, write, drop, unmap, move and fork it all at once. Every page that they see is compared.
 *
 *   lazy_busy DIR MIB OPERATIONS     writes DIR/ready, and DIR/result: "pass" or what is wrong
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096UL
#define BLOCK	32U /* pages that are moved together */
#define THREADS 3

struct region {
	pthread_t thread;
	unsigned number, blocks;
	char **block;	   /* where each block is now */
	bool *is_cut;	   /* it may consist of several mappings */
	uint32_t *version; /* of each page; 0: zeros */
	uint64_t random;
	int pipe[2];
};

static unsigned operations;
static const char *directory;
static pthread_mutex_t holes = PTHREAD_MUTEX_INITIALIZER; /* who makes one fills it */

__attribute__((format(printf, 1, 2))) static void report(const char *fmt, ...)
{
	char line[300], part[4096], path[4096];
	va_list ap;
	int fd;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	snprintf(part, sizeof(part), "%s/part.%d", directory, getpid());
	snprintf(path, sizeof(path), "%s/result", directory);
	fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, strlen(line)) < 0 || rename(part, path) < 0)
		abort();
	_exit(1);
}

static void *must(void *p, const char *what)
{
	if (p == MAP_FAILED)
		report("%s: %s", what, strerror(errno));
	return p;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15;
	return x ^ x >> 29;
}

static unsigned below(struct region *r, unsigned n)
{
	r->random = mix(r->random + 0x632be59bd9b4e019);
	return (r->random >> 20) % n;
}

static char *page_at(const struct region *r, unsigned page)
{
	return r->block[page / BLOCK] + page % BLOCK * PAGE;
}

static uint64_t word(const struct region *r, unsigned page, uint32_t version, unsigned i)
{
	return version ? mix(((uint64_t)r->number << 56 | (uint64_t)page << 32 | version) + i * 0x1000193ULL) : 0;
}

static void fill(struct region *r, unsigned page, uint32_t version)
{
	uint64_t *p = (uint64_t *)page_at(r, page);

	for (unsigned i = 0; i < PAGE / 8; i++)
		p[i] = word(r, page, version, i);
	r->version[page] = version;
}

static void check_words(const struct region *r, unsigned page, const uint64_t *p, const char *who)
{
	for (unsigned i = 0; i < PAGE / 8; i += 37)
		if (p[i] != word(r, page, r->version[page], i))
			report("%s: thread %u, page %u of version %u at %p: word %u is %#llx", who, r->number, page,
			       r->version[page], (void *)page_at(r, page), i, (unsigned long long)p[i]);
}

static void check(const struct region *r, unsigned first, unsigned n, const char *who)
{
	for (unsigned i = first; i < first + n && i < r->blocks * BLOCK; i++)
		check_words(r, i, (const uint64_t *)page_at(r, i), who);
}

/* A stretch within a block. */
static unsigned stretch(struct region *r, unsigned *ret_n)
{
	unsigned start = below(r, BLOCK);

	*ret_n = 1 + below(r, BLOCK - start);
	return below(r, r->blocks) * BLOCK + start;
}

static void zeroed(struct region *r, unsigned first, unsigned n)
{
	memset(r->version + first, 0, n * sizeof(*r->version));
}

static void drop(struct region *r)
{
	unsigned n, first = stretch(r, &n);

	if (madvise(page_at(r, first), n * PAGE, MADV_DONTNEED) < 0)
		report("madvise: %s", strerror(errno));
	zeroed(r, first, n);
	check(r, first, n, "after MADV_DONTNEED");
}

static void map_anew(struct region *r)
{
	unsigned n, first = stretch(r, &n);

	pthread_mutex_lock(&holes);
	if (munmap(page_at(r, first), n * PAGE) < 0)
		report("munmap: %s", strerror(errno));
	must(mmap(page_at(r, first), n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		  -1, 0), "mmap");
	pthread_mutex_unlock(&holes);
	r->is_cut[first / BLOCK] = true;
	zeroed(r, first, n);
	check(r, first, n, "after munmap and mmap");
}

static char *new_block(int prot)
{
	char *p;

	pthread_mutex_lock(&holes);
	p = must(mmap(NULL, BLOCK * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap");
	pthread_mutex_unlock(&holes);
	return p;
}

/* mremap(2) of several mappings may move some of them and fail then. */
static void move_pages(const struct region *r, unsigned b, char *to, int flags)
{
	unsigned long step = r->is_cut[b] ? PAGE : BLOCK * PAGE;

	for (unsigned long at = 0; at < BLOCK * PAGE; at += step)
		must(mremap(r->block[b] + at, step, step, flags, to + at), "mremap");
}

static void move(struct region *r)
{
	unsigned b = below(r, r->blocks);
	char *to = new_block(PROT_NONE), *from = r->block[b];
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (below(r, 2) ? MREMAP_DONTUNMAP : 0);

	move_pages(r, b, to, flags);
	r->block[b] = to;
	if (flags & MREMAP_DONTUNMAP) {
		for (unsigned i = 0; i < BLOCK; i++)
			if (((volatile uint64_t *)(from + i * PAGE))[5])
				report("what was moved away is still there");
		if (munmap(from, BLOCK * PAGE) < 0)
			report("munmap: %s", strerror(errno));
	}
	check(r, b * BLOCK + below(r, BLOCK), 8, "after mremap");
}

static void fork_and_check(struct region *r)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		check(r, 0, r->blocks * BLOCK, "in a child");
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		report("a child: %d, status %#x", pid, status);
}

/* The kernel's own accesses wait as well. */
static void through_a_pipe(struct region *r)
{
	uint64_t words[PAGE / 8];
	unsigned n, page = stretch(r, &n);

	if (write(r->pipe[1], page_at(r, page), PAGE) != PAGE || read(r->pipe[0], words, PAGE) != PAGE)
		report("a page through a pipe: %s", strerror(errno));
	check_words(r, page, words, "through a pipe");
}

static void operate(struct region *r)
{
	unsigned n, first = stretch(r, &n), what = below(r, 40);

	if (what == 0)
		fork_and_check(r);
	else if (what < 6)
		move(r);
	else if (what < 11)
		drop(r);
	else if (what < 15)
		map_anew(r);
	else if (what < 22)
		through_a_pipe(r);
	else if (what < 28)
		fill(r, first, r->version[first] + 1);
	else
		check(r, first, n, "later");
}

static void *run(void *arg)
{
	struct region *r = arg;
	char path[4096];

	snprintf(path, sizeof(path), "%s/start", directory);
	while (access(path, F_OK) < 0)
		usleep(100);
	for (unsigned i = 0; i < operations; i++)
		operate(r);
	check(r, 0, r->blocks * BLOCK, "at the end");
	return NULL;
}

static void set_up(struct region *r, unsigned number, unsigned blocks)
{
	*r = (struct region){.number = number, .blocks = blocks, .random = number};
	r->block = calloc(blocks, sizeof(*r->block));
	r->is_cut = calloc(blocks, sizeof(*r->is_cut));
	r->version = calloc(blocks * BLOCK, sizeof(*r->version));
	if (pipe(r->pipe) < 0)
		report("pipe: %s", strerror(errno));
	for (unsigned b = 0; b < blocks; b++)
		r->block[b] = new_block(PROT_READ | PROT_WRITE);
	for (unsigned i = 0; i < blocks * BLOCK; i++)
		if (i % 7) /* some were never touched */
			fill(r, i, 1);
}

static void say_ready(void)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/ready", directory);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		abort();
	close(fd);
}

int main(int argc, char **argv)
{
	static struct region region[THREADS];
	unsigned mib = argc == 4 ? atoi(argv[2]) : 0;

	if (!mib)
		return 2;
	directory = argv[1];
	operations = atoi(argv[3]);
	for (unsigned i = 0; i < THREADS; i++)
		set_up(&region[i], i + 1, mib * 256 / THREADS / BLOCK);
	for (unsigned i = 0; i < THREADS; i++)
		if (pthread_create(&region[i].thread, NULL, run, &region[i]))
			report("pthread_create");
	say_ready();
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(region[i].thread, NULL);
	report("pass");
}
