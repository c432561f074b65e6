/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that changes between dumps: two steps, each when a file asks for it. Pages are written to, written back,
 * zeroed, dropped and unmapped, mappings come, and a child is forked that changes some of its own. A memfd that
 * nobody maps is written to and punched into.
 */
#include "subject.h"

#define P     4096UL
#define PAGES 64

struct area {
	char *at;
	int seed[PAGES]; /* pattern of each page; 0: zeros, -1: not mapped */
};

static struct area a, b, c, shared;
static int step, file_fd, file_seed[PAGES];

static void set(struct area *r, unsigned first, unsigned n, int seed)
{
	for (unsigned i = first; i < first + n; i++) {
		r->seed[i] = seed;
		if (seed > 0)
			subject_pattern(r->at + i * P, P, seed + i);
		else if (seed == 0)
			memset(r->at + i * P, 0, P);
	}
}

static void check_area(const struct area *r, const char *name)
{
	for (unsigned i = 0; i < PAGES && r->at; i++) {
		const char *page = r->at + i * P;
		unsigned char here;

		if (r->seed[i] < 0) {
			CHECK(mincore(r->at + i * P, P, &here) < 0 && errno == ENOMEM, "%s: page %u is back", name, i);
			continue;
		}
		if (r->seed[i] > 0)
			CHECK(subject_is_pattern(page, P, r->seed[i] + i), "%s: page %u", name, i);
		for (unsigned k = 0; k < P && r->seed[i] == 0; k++)
			CHECK(!page[k], "%s: page %u is not zero", name, i);
	}
}

static void set_file(unsigned first, unsigned n, int seed)
{
	char page[P];

	for (unsigned i = first; i < first + n; i++) {
		file_seed[i] = seed;
		subject_pattern(page, P, seed + i);
		if (seed)
			MUST(pwrite(file_fd, page, P, i * P));
		else
			MUST(fallocate(file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * P, P));
	}
}

static void check_file(void)
{
	static const char zeros[P];
	char page[P];

	for (unsigned i = 0; i < PAGES; i++) {
		CHECK(pread(file_fd, page, P, i * P) == P, "file: page %u is missing", i);
		CHECK(file_seed[i] ? subject_is_pattern(page, P, file_seed[i] + i)
				   : memcmp(page, zeros, P) == 0, "file: page %u", i);
	}
}

static void check_all(void)
{
	check_file();
	check_area(&a, "a");
	check_area(&b, "b");
	check_area(&c, "c");
	check_area(&shared, "shared");
}

static bool is_asked(const char *name)
{
	return access(subject_path(name), F_OK) == 0;
}

static void tell(const char *name)
{
	close(MUST(open(subject_path(name), O_CREAT | O_WRONLY, 0644)));
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void map_area(struct area *r, int flags)
{
	r->at = MUST(mmap(NULL, PAGES * P, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
}

static int child(void *arg)
{
	set(&a, 40, 4, 51);
	subject_child_ready();
	while (!subject_is_go()) {
		if (step == 1 && is_asked("step2")) {
			step = 2;
			set(&a, 42, 4, 61);
			set(&shared, 8, 2, 62);
			tell("child2");
		}
		nap();
	}

	check_area(&a, "a of the child");
	check_area(&b, "b of the child");
	return 0;
}

static pid_t first_step(void)
{
	set(&a, 8, 4, 11);
	set(&a, 20, 1, 0);
	MUST(madvise(a.at + 30 * P, 4 * P, MADV_DONTNEED));
	for (int i = 30; i < 34; i++)
		a.seed[i] = 0;
	MUST(munmap(b.at + 32 * P, 32 * P));
	set(&b, 32, 32, -1);
	map_area(&c, MAP_PRIVATE);
	set(&c, 0, 20, 12);
	set(&shared, 3, 1, 13);
	set_file(50, 2, 0);
	set_file(60, 1, 14);
	step = 1;
	return subject_fork(child, NULL);
}

static void second_step(void)
{
	set(&a, 8, 2, 1); /* as it was at first */
	set(&a, 10, 1, 21);
	MUST(mmap(b.at, 16 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	set(&b, 0, 16, 0);
	set(&b, 2, 1, 22);
	set(&c, 19, 30, 23);
	set_file(51, 1, 24);
	set_file(61, 1, 0);
	while (!is_asked("child2"))
		nap();
	for (int i = 8; i < 10; i++)
		shared.seed[i] = 62;
	step = 2;
}

int main(int argc, char **argv)
{
	pid_t pid = 0;

	subject_init(argc, argv);
	map_area(&a, MAP_PRIVATE);
	map_area(&b, MAP_PRIVATE);
	map_area(&shared, MAP_SHARED);
	set(&a, 0, PAGES, 1);
	set(&b, 0, PAGES, 2);
	set(&shared, 0, PAGES, 3);
	file_fd = MUST(memfd_create("layers", 0));
	set_file(0, PAGES, 4);
	subject_ready();
	while (!subject_is_go()) {
		if (step == 0 && is_asked("step1")) {
			pid = first_step();
			tell("done1");
		} else if (step == 1 && is_asked("step2")) {
			second_step();
			tell("done2");
		}
		nap();
	}
	check_all();
	if (pid)
		subject_join(pid);
	subject_pass();
}
