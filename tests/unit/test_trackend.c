/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Write tracking of a child: what is found to be open, and that nothing is left of it at the end,
 * however the mappings have changed meanwhile.
 */
#include "mem/pages.h"

#include "base/kabi.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define P     CPX_PAGE_SIZE
#define PAGES 6000UL /* more than a piece */

/* ---- a child that does one thing after the other with its memory, and rests in between ---- */

struct child {
	pid_t pid;
	int to, from;
	uint8_t *p;
};

typedef int (*deed)(uint8_t *p);

/* Amid addresses that nobody else takes. */
static uint8_t *map_area(void)
{
	uint8_t *p = mmap(NULL, 3 * PAGES * P, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int prot = PROT_READ | PROT_WRITE;

	assert_ptr_not_equal(p, MAP_FAILED);
	p = mmap(p + PAGES * P, PAGES * P, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	madvise(p, PAGES * P, MADV_NOHUGEPAGE);
	return p;
}

static void run_child(const struct child *c, int from, int to)
{
	deed d;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(c->p, 1, PAGES * P);
	while (read(from, &d, sizeof(d)) == sizeof(d)) {
		ret = d(c->p);
		if (write(to, &ret, sizeof(ret)) != sizeof(ret))
			break;
	}
	_exit(0);
}

static int let(const struct child *c, deed d)
{
	int ret;

	assert_int_equal(write(c->to, &d, sizeof(d)), sizeof(d));
	assert_int_equal(read(c->from, &ret, sizeof(ret)), sizeof(ret));
	return ret;
}

static int set_up(void **state)
{
	struct child *c = calloc(1, sizeof(*c));
	int to[2], from[2];

	if (!c || pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return -1;
	c->p = map_area();
	c->pid = fork();
	if (!c->pid) {
		close(to[1]);
		run_child(c, to[0], from[1]);
	}
	munmap(c->p - PAGES * P, 3 * PAGES * P);
	close(to[0]);
	close(from[1]);
	c->to = to[1];
	c->from = from[0];
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct child *c = *state;

	close(c->to);
	close(c->from);
	waitpid(c->pid, NULL, 0);
	free(c);
	return 0;
}

/* ---- watching it ---- */

static int uffd;

static int open_uffd(uint8_t *p)
{
	(void)p;
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | KABI_UFFD_USER_MODE_ONLY);
	return uffd;
}

static int close_uffd(uint8_t *p)
{
	(void)p;
	return close(uffd);
}

static struct track *begin(const struct child *c)
{
	int pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0), its = let(c, open_uffd);
	int mine = its < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, its, 0);
	struct err err = ERR_INIT;
	struct track *t = NULL;

	close(pidfd);
	if (its >= 0)
		let(c, close_uffd);
	if (mine < 0 || track_new(c->pid, mine, 1, &t, &err) < 0) {
		print_message("no write tracking here: %s\n", mine < 0 ? "userfaultfd" : err.msg);
		skip();
	}
	return t;
}

static void mark(struct track *t)
{
	struct err err = ERR_INIT;
	uint64_t bytes;

	assert_int_equal(track_mark(t, &bytes, &err), 0);
}

static uint64_t count_open(const struct child *c, struct track *t)
{
	struct page_ranges open = {0};
	uint64_t start = (uintptr_t)c->p, bytes;
	struct err err = ERR_INIT;

	assert_int_equal(track_open(t, &err), 0);
	assert_int_equal(track_find_open(t, start, start + PAGES * P, &open, &err), 0);
	bytes = open.bytes;
	page_ranges_release(&open);
	return bytes / P;
}

/* ---- what may be left of it ---- */

/* What smaps says of its memory: where the mappings are, and their flags. How many? */
static size_t describe(const struct child *c, char *to, size_t size)
{
	unsigned long area = (uintptr_t)c->p, start, end;
	bool is_within = false;
	char line[512];
	size_t n = 0;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/smaps", c->pid);
	f = fopen(line, "r");
	assert_non_null(f);
	to[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		bool is_first = sscanf(line, "%lx-%lx ", &start, &end) == 2;

		if (is_first)
			is_within = start < area + PAGES * P && end > area;
		n += is_first && is_within;
		if (is_within && (is_first || !strncmp(line, "VmFlags:", 8)))
			strncat(to, line, size - strlen(to) - 1);
	}
	fclose(f);
	return n;
}

/* Its mappings are as before, and no page is protected: it would not count as written to when
 * somebody watches next. */
static void assert_nothing_left(const struct child *c, const char *before)
{
	struct track *t;
	char now[4096];

	describe(c, now, sizeof(now));
	assert_string_equal(now, before);
	t = begin(c);
	assert_int_equal(count_open(c, t), PAGES);
	track_free(t);
	describe(c, now, sizeof(now));
	assert_string_equal(now, before);
}

/* ---- tests ---- */

static int change_a_few(uint8_t *p)
{
	p[5 * P] = 2;
	p[(PAGES - 1) * P] = 2;
	return madvise(p + 100 * P, 10 * P, MADV_DONTNEED);
}

static void test_open(void **state)
{
	const struct child *c = *state;
	struct track *t = begin(c);

	assert_int_equal(count_open(c, t), PAGES);
	mark(t);
	assert_int_equal(count_open(c, t), 0);
	let(c, change_a_few);
	assert_int_equal(count_open(c, t), 12);
	mark(t);
	assert_int_equal(count_open(c, t), 10);
	track_free(t);
}

static void test_end(void **state)
{
	const struct child *c = *state;
	char before[4096];
	struct track *t;

	assert_int_equal(describe(c, before, sizeof(before)), 1);
	t = begin(c);
	mark(t);
	let(c, change_a_few);
	track_relax(t);
	assert_int_equal(count_open(c, t), PAGES);
	let(c, change_a_few);
	track_end(t);
	let(c, change_a_few);
	track_free(t);
	assert_nothing_left(c, before);
}

/* What comes before it has been left out. */
static void test_end_at_once(void **state)
{
	const struct child *c = *state;
	char before[4096];
	struct track *t;

	describe(c, before, sizeof(before));
	t = begin(c);
	mark(t);
	track_end(t);
	track_free(t);
	assert_nothing_left(c, before);
}

static int make_three(uint8_t *p)
{
	return mprotect(p + 3000 * P, 10 * P, PROT_READ);
}

static int make_one(uint8_t *p)
{
	return mprotect(p + 3000 * P, 10 * P, PROT_READ | PROT_WRITE);
}

/* Mappings change between the two steps, and pages are protected still at the second. */
static void test_end_changed(void **state)
{
	const struct child *c = *state;
	char before[4096];
	struct track *t;

	let(c, make_three);
	assert_int_equal(describe(c, before, sizeof(before)), 3);
	let(c, make_one);
	t = begin(c);
	mark(t);
	track_relax(t);
	let(c, make_three);
	mark(t);
	assert_int_equal(count_open(c, t), 0);
	track_end(t);
	track_free(t);
	assert_nothing_left(c, before);
}

/* ---- what the kernel forgets ---- */

static int move_away(uint8_t *p)
{
	void *to = p + (PAGES + 500) * P;

	munmap(to, 1000 * P);
	return mremap(p + 1000 * P, 1000 * P, 1000 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to;
}

static int move_back(uint8_t *p)
{
	uint8_t *from = p + (PAGES + 500) * P;

	return mremap(from, 1000 * P, 1000 * P, MREMAP_MAYMOVE | MREMAP_FIXED, p + 1000 * P) !=
	       p + 1000 * P;
}

static enum page_state state_of(const struct child *c, const struct track *t, size_t page)
{
	uint64_t addr = (uintptr_t)c->p + page * P, next;

	return page_known_get(&t->known, addr, addr + P, &next);
}

/* Is there a page of which it is said that it is as it was stored, though it was written to since?
 */
static bool errs(const struct child *c, struct track *t, size_t page)
{
	struct page_ranges open = {0};
	uint64_t addr = (uintptr_t)c->p + page * P, bytes;
	struct err err = ERR_INIT;
	int r;

	assert_int_equal(track_open(t, &err), 0);
	r = track_find_open(t, addr, addr + P, &open, &err);
	bytes = open.bytes;
	page_ranges_release(&open);
	return r == 0 && !bytes && state_of(c, t, page) == PAGE_STORED;
}

/* Then the old neighbours, which are written to, are not watched any more, and protected still. */
static void test_moved_back(void **state)
{
	const struct child *c = *state;
	struct err err = ERR_INIT;
	struct track *t = begin(c);

	mark(t);
	assert_int_equal(let(c, move_away), 0);
	assert_int_equal(track_watch_new(t, &err), 0);
	mark(t);
	page_known_set(&t->known, (uintptr_t)c->p, PAGES * P, PAGE_STORED);
	assert_true(errs(c, t, 5)); /* rightly, so far */
	assert_int_equal(let(c, move_back), 0);
	let(c, change_a_few);
	assert_false(errs(c, t, 5));
	assert_int_equal(track_watch_new(t, &err), 0);
	assert_false(errs(c, t, 5));
	/* And what is written to from now on is seen. */
	mark(t);
	page_known_set(&t->known, (uintptr_t)c->p, PAGES * P, PAGE_STORED);
	let(c, change_a_few);
	assert_false(errs(c, t, 5));
	track_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_end_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_moved_back, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("trackend", tests, NULL, NULL);
}
