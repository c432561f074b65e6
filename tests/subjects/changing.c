/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of all kinds that is written to all the time: by the program and by the kernel for it, each page with a
 * number that is also in a table elsewhere. With a second argument mappings come, go, move and grow as well, and
 * children are forked. Whatever is dumped meanwhile must fit together. Not in the table of subjects: it is
 * for pre-copy, which looks at memory while it changes.
 */
#include "subject.h"

#define PAGE  4096UL
#define WORDS (PAGE / sizeof(uint64_t))

/* Pages that are written to in turn, by one thread. */
struct field {
	uint64_t *page;
	size_t n;
	uint32_t *count; /* by page: how often */
	int fd;		 /* >= 0: every other time by pwrite(2) */
	pthread_t thread;
};

static volatile bool stop;
static int source; /* a pipe that holds nothing between two uses */
static int sink;

static uint64_t value(const struct field *f, size_t i, size_t word)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL + f->count[i] * 0x100000001b3ULL + word;
}

static void fill(const struct field *f, size_t i, uint64_t *to)
{
	for (size_t w = 0; w < WORDS; w++)
		to[w] = value(f, i, w);
}

/* By copy_to_user() of the kernel. */
static void fill_by_kernel(const struct field *f, size_t i)
{
	uint64_t buf[WORDS];

	fill(f, i, buf);
	CHECK_EQ(write(sink, buf, PAGE), PAGE);
	CHECK_EQ(read(source, f->page + i * WORDS, PAGE), PAGE);
}

static void change(struct field *f, size_t i)
{
	uint64_t buf[WORDS];

	f->count[i]++;
	if (f->fd >= 0 && f->count[i] % 2) {
		fill(f, i, buf);
		CHECK_EQ(pwrite(f->fd, buf, PAGE, i * PAGE), PAGE);
	} else if (f->fd < 0 && f->count[i] % 7 == 3) {
		fill_by_kernel(f, i);
	} else {
		fill(f, i, f->page + i * WORDS);
	}
}

static void check(const struct field *f, size_t i)
{
	for (size_t w = 0; w < WORDS; w++)
		CHECK(f->page[i * WORDS + w] == value(f, i, w), "a page is not as it was written");
}

static pthread_mutex_t pipe_lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *arg)
{
	struct field *f = arg;
	uint64_t random = f->n;

	while (!stop) {
		for (int k = 0; k < 8; k++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			pthread_mutex_lock(&pipe_lock);
			change(f, (random >> 33) % f->n);
			pthread_mutex_unlock(&pipe_lock);
			check(f, (random >> 40) % f->n);
		}
		usleep(500);
	}
	for (size_t i = 0; i < f->n; i++)
		check(f, i);
	return NULL;
}

static void start(struct field *f, void *page, size_t n, int fd)
{
	*f = (struct field){.page = page, .n = n, .fd = fd};
	f->count = calloc(n, sizeof(*f->count));
	for (size_t i = 0; i < n; i++)
		fill(f, i, f->page + i * WORDS);
	f->thread = subject_thread(work, f);
}

/* ---- mappings that come and go ---- */

static void *map(size_t pages)
{
	return MUST(mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* One that lives on and moves; neighbours that grow together; pages given back. */
static void *wander(void *arg)
{
	size_t n = 96;
	char *home = map(n), *other;

	for (uint32_t round = 0; !stop; round++) {
		subject_pattern(home, n * PAGE, round);
		other = map(2 * n);
		memset(other, round | 1, n * PAGE);
		MUST(madvise(other, n / 2 * PAGE, MADV_DONTNEED));
		home = MUST(mremap(home, n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + n * PAGE));
		CHECK(subject_is_pattern(home, n * PAGE, round), "a moved mapping");
		for (size_t i = 0; i < n; i++)
			CHECK_EQ(other[i * PAGE], i < n / 2 ? 0 : (char)(round | 1));
		MUST(munmap(other, n * PAGE));
		usleep(1000);
		CHECK(subject_is_pattern(home, n * PAGE, round), "a mapping that rests");
	}
	return NULL;
}

static void *grow(void *arg)
{
	size_t n = 16;
	char *p = map(n);

	memset(p, 1, n * PAGE);
	while (!stop) {
		char *block = malloc(200000);

		memset(block, 7, 200000);
		p = MUST(mremap(p, n * PAGE, (n + 4) * PAGE, MREMAP_MAYMOVE));
		for (size_t i = 0; i < n + 4; i++)
			CHECK_EQ(p[i * PAGE], i < n);
		n += 4;
		memset(p, 1, n * PAGE);
		if (n > 2000)
			MUST(munmap(p + (n = 16) * PAGE, (2004 - 16) * PAGE));
		usleep(2000);
		CHECK_EQ(block[199999], 7);
		free(block);
	}
	return NULL;
}

static void *fork_often(void *arg)
{
	const struct field *f = arg;

	while (!stop) {
		pid_t pid;

		pthread_mutex_lock(&pipe_lock);
		pid = MUST(fork());
		if (!pid) {
			for (size_t i = 0; i < f->n; i += 10) {
				check(f, i);
				f->page[i * WORDS] = 0; /* its own copy */
			}
			_exit(0);
		}
		pthread_mutex_unlock(&pipe_lock);
		subject_join(pid);
		usleep(20000);
	}
	return NULL;
}

/* ---- all of it ---- */

static void *map_file(size_t n, int flags, int fd)
{
	MUST(ftruncate(fd, n * PAGE));
	return MUST(mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0));
}

int main(int argc, char **argv)
{
	struct field field[6];
	pthread_t wild[3];
	int p[2], memfd, file;

	subject_init(argc, argv);
	MUST(pipe(p));
	source = p[0];
	sink = p[1];
	memfd = MUST(memfd_create("changing", 0));
	file = MUST(open(subject_path("file"), O_RDWR | O_CREAT, 0600));
	start(&field[0], map(2048), 2048, -1);
	start(&field[1], malloc(300 * PAGE), 299, -1);
	start(&field[2], MUST(mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)), 64, -1);
	start(&field[3], map_file(64, MAP_SHARED, memfd), 64, memfd);
	start(&field[4], map_file(64, MAP_PRIVATE, file), 64, -1);
	start(&field[5], map(1024), 1024, -1);
	madvise(field[5].page, 1024 * PAGE, MADV_HUGEPAGE);
	if (argc > 2) {
		wild[0] = subject_thread(wander, NULL);
		wild[1] = subject_thread(grow, NULL);
		wild[2] = subject_thread(fork_often, &field[0]);
	}
	subject_ready();
	subject_wait();
	stop = true;
	for (int i = 0; i < 6; i++)
		subject_join_thread(field[i].thread);
	for (int i = 0; argc > 2 && i < 3; i++)
		subject_join_thread(wild[i]);
	subject_pass();
}
