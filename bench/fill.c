/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bare primitive of a restore: a file, mapped, copied into fresh anonymous memory by UFFDIO_COPY from so many threads.
 *
 * Usage: fill FILE THREADS     prints the ns that it took
 */
#include "bare.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE	    4096UL
#define PIECE	    (1UL << 20)
#define THREADS_MAX 64

struct fill {
	int uffd;
	uint8_t *from, *to;
	size_t size;
	_Atomic size_t next;
};

static void open_source(struct fill *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	f->size = st.st_size & ~(PAGE - 1);
	f->from = mmap(NULL, f->size, PROT_READ, MAP_SHARED, fd, 0);
	f->to = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->from == MAP_FAILED || f->to == MAP_FAILED)
		die("mmap");
	madvise(f->to, f->size, MADV_NOHUGEPAGE);
	close(fd);
}

static void open_uffd(struct fill *f)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range = {(uintptr_t)f->to, f->size}, .mode = UFFDIO_REGISTER_MODE_MISSING};

	f->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (f->uffd < 0 || ioctl(f->uffd, UFFDIO_API, &api) || ioctl(f->uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
}

static void *run(void *arg)
{
	struct fill *f = arg;
	size_t at;

	while ((at = atomic_fetch_add(&f->next, PIECE)) < f->size) {
		size_t size = f->size - at < PIECE ? f->size - at : PIECE;
		struct uffdio_copy copy = {(uintptr_t)f->to + at, (uintptr_t)f->from + at, size, 0, 0};

		if (ioctl(f->uffd, UFFDIO_COPY, &copy))
			die("UFFDIO_COPY");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct fill f = {0};
	pthread_t ids[THREADS_MAX];
	unsigned threads = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	uint64_t start;

	if (!threads || threads > THREADS_MAX) {
		fprintf(stderr, "usage: fill FILE THREADS\n");
		return 2;
	}
	open_source(&f, argv[1]);
	open_uffd(&f);
	start = now_ns();
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, run, &f))
			die("pthread_create");
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("%lu\n", now_ns() - start);
}
