/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the memory of a workload holds: random bytes, which nothing compresses; lines of a log, which lz4 makes
 * about four times smaller; or runs of random bytes and of zeros in turn.
 */
#include "content.h"

#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BOOK  (4UL << 20) /* lines of which text is put together */
#define QUOTE 2048	  /* bytes of it at a time */

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void die(const char *what)
{
	perror(what);
	exit(1);
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void fill_random(uint8_t *at, size_t size, uint64_t *state)
{
	for (size_t i = 0; i < size; i += sizeof(*state)) {
		random_next(state);
		memcpy(at + i, state, sizeof(*state));
	}
}

/* One of few phrases, as programs log them, between a time and a number that differ from line to line. */
static size_t write_line(char *at, size_t room, uint64_t *state)
{
	static const char *const who[] = {"connection from 10.0.0.7", "request of user", "session of client",
					  "message in the queue", "entry of the index", "job of worker"};
	static const char *const what[] = {"was accepted and is being served", "timed out, will be retried in 5 s",
					   "was not found in the cache, asking upstream", "done: status=200 bytes=5120",
					   "closed by the other side after 30 s of silence"};
	unsigned x = random_next(state) >> 16;
	int size = snprintf(at, room, "2026-11-22T09:%02u:%02u.%03u app[12%02u]: %s %s id=%06x\n", x % 60, x % 59, x % 1000,
			    x % 31, who[x % 6], what[x % 5], x & 0xffffff);

	return (size_t)size < room ? (size_t)size : room;
}

static char *book_new(uint64_t *state)
{
	char *book = malloc(BOOK);

	if (!book)
		die("malloc");
	for (size_t i = 0; i < BOOK;)
		i += write_line(book + i, BOOK - i, state);
	return book;
}

static void fill_text(uint8_t *at, size_t size, uint64_t *state)
{
	char *book = book_new(state);

	for (size_t i = 0; i < size; i += QUOTE)
		memcpy(at + i, book + random_next(state) % (BOOK - QUOTE), QUOTE);
	free(book);
}

static void fill_half(uint8_t *at, size_t size, uint64_t *state)
{
	for (size_t i = 0; i < size; i += 2 * RUN) {
		fill_random(at + i, RUN, state);
		memset(at + i + RUN, 0, RUN);
	}
}

struct memory memory_new(size_t mib, enum fill fill, uint64_t seed)
{
	static void (*const fills[])(uint8_t *, size_t, uint64_t *) = {fill_random, fill_text, fill_half};
	struct memory m = {.size = mib << 20, .fill = fill};
	uint64_t state = 88172645463325252ULL + seed * 0x9e3779b97f4a7c15ULL;

	if (!m.size)
		return m;
	m.bytes = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m.bytes == MAP_FAILED)
		die("mmap");
	madvise(m.bytes, m.size, MADV_NOHUGEPAGE);
	fills[fill](m.bytes, m.size, &state);
	return m;
}

/* The same bytes again: zeros stay zeros. */
void memory_touch(struct memory *m)
{
	for (size_t i = 0; i < m->size; i += PAGE) {
		volatile uint8_t *byte = m->bytes + i;
		*byte = *byte;
	}
}

void memory_dirty(struct memory *m, size_t pages)
{
	size_t all = m->size / PAGE, step = pages ? all / pages : 0;

	for (size_t i = 0; i < pages; i++)
		m->bytes[i * step * PAGE + 8]++;
}

uint64_t memory_write(const struct memory *m, const char *path)
{
	uint64_t start = now_ns();
	size_t size = m->fill == FILL_HALF ? RUN : PIECE, step = m->fill == FILL_HALF ? 2 * RUN : PIECE;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path);
	for (size_t i = 0; i < m->size; i += step)
		if (write(fd, m->bytes + i, size) != (ssize_t)size)
			die("write");
	start = now_ns() - start;
	close(fd);
	unlink(path);
	return start;
}

struct packing {
	const struct memory *m;
	_Atomic size_t next;
};

static void *pack(void *arg)
{
	struct packing *p = arg;
	int room = LZ4_compressBound(PIECE);
	char *out = malloc(room);
	size_t at;

	while (out && (at = atomic_fetch_add(&p->next, PIECE)) < p->m->size)
		if (LZ4_compress_default((const char *)p->m->bytes + at, out, PIECE, room) <= 0)
			die("lz4");
	free(out);
	return NULL;
}

uint64_t memory_lz4(const struct memory *m, unsigned threads)
{
	struct packing p = {.m = m};
	pthread_t ids[64];
	uint64_t start = now_ns();
	unsigned n = threads < 64 ? threads : 64;

	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&ids[i], NULL, pack, &p))
			die("pthread_create");
	for (unsigned i = 0; i < n; i++)
		pthread_join(ids[i], NULL);
	return now_ns() - start;
}
