/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that do to the pages of an area each what may be done to memory, at random: map, unmap,
 * protect, move, grow, give back, guard, write to, also by the kernel; and that keep books of what
 * each page must be. Not in the table of subjects: it is for pre-copy, which looks at memory while
 * it changes. The second argument is the seed.
 *
 * A range that came of one call of mmap(2) must remain one for mremap(2), whoever watches it.
 */
#include "subject.h"

#include <sys/uio.h>

#define PAGE	  4096UL
#define WORDS	  (PAGE / sizeof(uint64_t))
#define PAGES	  6144UL /* of an area: twelve page tables */
#define WANDERING 300	 /* pages, so many that they are watched where they come to */
#define THREADS	  3
#define MARKS	  4 /* words of a page that are not zero, unless it is */

#define GUARD_INSTALL 102
#define GUARD_REMOVE  103
#define COLLAPSE      25

enum { UNMAPPED = -1 };

struct page {
	uint32_t value; /* 0: all zero */
	uint32_t piece; /* those that are neighbours and of one piece are of one mapping */
	int prot;
	bool is_guard;
};

struct area {
	uint64_t (*at)[WORDS];
	struct page *page;
	uint64_t random;
	uint32_t last_piece, last_value;
	int pipe[2];
	pthread_t thread;
};

static volatile bool stop;
static bool has_guards = true;

static size_t below(struct area *a, size_t n)
{
	a->random = a->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (a->random >> 33) % n;
}

static size_t mark(unsigned i)
{
	return i * (WORDS - 1) / (MARKS - 1);
}

static uint64_t word(uint32_t value, unsigned i)
{
	return value ? (value + i) * 0x9e3779b97f4a7c15ULL | 1 : 0;
}

/* ---- one page ---- */

static bool has(const struct page *p, int prot)
{
	return p->prot != UNMAPPED && (p->prot & prot) == prot && !p->is_guard;
}

static void check(const struct area *a, size_t i)
{
	const struct page *p = &a->page[i];
	unsigned char core;

	if (p->prot == UNMAPPED) {
		CHECK(mincore(a->at[i], PAGE, &core) < 0 && errno == ENOMEM, "page %zu is mapped",
		      i);
		return;
	}
	if (!has(p, PROT_READ))
		return;
	for (unsigned k = 0; k < MARKS; k++)
		CHECK(a->at[i][mark(k)] == word(p->value, k),
		      "page %zu of %p: %llx, not that of %u", i, (void *)a->at,
		      (unsigned long long)a->at[i][mark(k)], p->value);
	CHECK(a->at[i][WORDS / 2] == 0, "page %zu", i);
}

static void write_by_kernel(struct area *a, size_t i, unsigned how)
{
	uint64_t buf[WORDS] = {0};
	struct iovec from = {buf, PAGE}, to = {a->at[i], PAGE};

	for (unsigned k = 0; k < MARKS; k++)
		buf[mark(k)] = word(a->page[i].value, k);
	if (how == 0) {
		CHECK_EQ(write(a->pipe[1], buf, PAGE), PAGE);
		CHECK_EQ(read(a->pipe[0], a->at[i], PAGE), PAGE);
	} else {
		CHECK_EQ(process_vm_writev(getpid(), &from, 1, &to, 1, 0), PAGE);
	}
}

static void change(struct area *a, size_t i)
{
	unsigned how = below(a, 12);

	if (!has(&a->page[i], PROT_READ | PROT_WRITE))
		return;
	a->page[i].value = ++a->last_value;
	if (how < 2) {
		write_by_kernel(a, i, how);
		return;
	}
	for (unsigned k = 0; k < MARKS; k++)
		a->at[i][mark(k)] = word(a->page[i].value, k);
}

/* ---- ranges ---- */

struct range {
	size_t start, n;
};

/* Mostly small, at times whole page tables. */
static struct range any(struct area *a)
{
	size_t n = below(a, 8) ? 1 + below(a, 40) : 512 * (1 + below(a, 2));
	size_t start = below(a, PAGES - n + 1);

	return (struct range){n % 512 ? start : start / 512 * 512, n};
}

static bool is_all(const struct area *a, struct range r, bool is_mapped)
{
	for (size_t i = 0; i < r.n; i++)
		if ((a->page[r.start + i].prot != UNMAPPED) != is_mapped)
			return false;
	return true;
}

/* Cut down to one piece. */
static struct range piece(const struct area *a, struct range r)
{
	size_t n = 1;

	while (n < r.n && a->page[r.start + n].prot != UNMAPPED &&
	       a->page[r.start + n].piece == a->page[r.start].piece)
		n++;
	return (struct range){r.start, n};
}

static void set(struct area *a, struct range r, const struct page *p)
{
	for (size_t i = 0; i < r.n; i++)
		a->page[r.start + i] = *p;
}

/* They part from their neighbours; what were pieces remains so. */
static void renew(struct area *a, struct range r)
{
	uint32_t before = 0;

	for (size_t i = r.start; i < r.start + r.n; i++) {
		if (i == r.start || a->page[i].piece != before)
			a->last_piece++;
		before = a->page[i].piece;
		a->page[i].piece = a->last_piece;
	}
}

/* ---- what is done to them ---- */

static void map(struct area *a, struct range r)
{
	const struct page fresh = {.prot = PROT_READ | PROT_WRITE};

	MUST(mmap(a->at[r.start], r.n * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	set(a, r, &fresh);
	renew(a, r);
}

static void unmap(struct area *a, struct range r)
{
	MUST(munmap(a->at[r.start], r.n * PAGE));
	set(a, r, &(struct page){.prot = UNMAPPED});
}

static void protect(struct area *a, struct range r)
{
	static const int prots[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
				    PROT_NONE};
	int prot = prots[below(a, 4)];

	if (!is_all(a, r, true))
		return;
	MUST(mprotect(a->at[r.start], r.n * PAGE, prot));
	for (size_t i = 0; i < r.n; i++)
		a->page[r.start + i].prot = prot;
	renew(a, r);
}

static void give_back(struct area *a, struct range r)
{
	if (!is_all(a, r, true))
		return;
	MUST(madvise(a->at[r.start], r.n * PAGE, MADV_DONTNEED));
	for (size_t i = 0; i < r.n; i++)
		a->page[r.start + i].value = 0;
}

static void advise(struct area *a, struct range r)
{
	static const int advices[] = {MADV_HUGEPAGE, MADV_NOHUGEPAGE, COLLAPSE, MADV_COLD};
	int advice = advices[below(a, 4)];

	if (!is_all(a, r, true))
		return;
	madvise(a->at[r.start], r.n * PAGE, advice);
	if (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE)
		renew(a, r);
}

static void guard(struct area *a, struct range r)
{
	bool is_guard = below(a, 2);

	if (!has_guards || !is_all(a, r, true))
		return;
	if (madvise(a->at[r.start], r.n * PAGE, is_guard ? GUARD_INSTALL : GUARD_REMOVE) < 0) {
		CHECK_EQ(errno, EINVAL); /* before Linux 6.13 */
		has_guards = false;
		return;
	}
	for (size_t i = 0; i < r.n; i++) {
		struct page *p = &a->page[r.start + i];

		p->value = is_guard ? 0 : p->value;
		p->is_guard = is_guard;
	}
}

static void move_to(struct area *a, struct range r, struct range to, bool leaves)
{
	MUST(mremap(a->at[r.start], r.n * PAGE, r.n * PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED | (leaves ? MREMAP_DONTUNMAP : 0),
		    a->at[to.start]));
	memcpy(&a->page[to.start], &a->page[r.start], r.n * sizeof(struct page));
	renew(a, to);
	for (size_t i = 0; i < r.n; i++)
		a->page[r.start + i] = (struct page){
			.prot = leaves ? a->page[r.start + i].prot : UNMAPPED,
			.piece = a->page[r.start + i].piece,
		};
}

static bool is_apart(struct range r, struct range o)
{
	return r.start + r.n <= o.start || o.start + o.n <= r.start;
}

static struct range anywhere(struct area *a, size_t n)
{
	return (struct range){
		n % 512 ? below(a, PAGES - n + 1) : below(a, (PAGES - n) / 512 + 1) * 512, n};
}

static void move(struct area *a, struct range r)
{
	struct range to;

	if (!is_all(a, r, true))
		return;
	r = piece(a, r);
	to = anywhere(a, r.n);
	if (is_apart(r, to))
		move_to(a, r, to, below(a, 4) == 0);
}

/* Where it ends, as far as there is room. */
static void extend(struct area *a, struct range r)
{
	struct range more = {0};
	struct page last;

	if (!is_all(a, r, true))
		return;
	r = piece(a, r);
	more.start = r.start + r.n;
	while (more.n < 64 && more.start + more.n < PAGES &&
	       a->page[more.start + more.n].prot == UNMAPPED)
		more.n++;
	if (!more.n)
		return;
	last = (struct page){.prot = a->page[more.start - 1].prot, .piece = a->page[r.start].piece};
	CHECK(mremap(a->at[r.start], r.n * PAGE, (r.n + more.n) * PAGE, 0) == a->at[r.start], "%s",
	      strerror(errno));
	set(a, more, &last);
	renew(a, (struct range){r.start, r.n + more.n}); /* what it meets may be a rest of the same piece */
}

static void change_many(struct area *a, struct range r)
{
	for (size_t i = 0; i < r.n; i += 1 + below(a, 3))
		change(a, r.start + i);
}

static void check_many(struct area *a, struct range r)
{
	for (size_t i = 0; i < r.n; i++)
		check(a, r.start + i);
}

static void fork_once(struct area *a, struct range r)
{
	pid_t pid;

	if (below(a, 40))
		return;
	pid = MUST(fork());
	if (!pid) {
		check_many(a, r);
		change_many(a, r);
		check_many(a, r);
		_exit(0);
	}
	subject_join(pid);
}

typedef void (*deed)(struct area *a, struct range r);

static const deed deeds[] = {
	map,  map,  unmap,  protect, protect,	  give_back,   advise,	    guard,
	move, move, extend, extend,  change_many, change_many, change_many, fork_once,
};

#define KINDS (sizeof(deeds) / sizeof(*deeds))

static void *mutate(void *arg)
{
	struct area *a = arg;

	while (!stop) {
		for (int i = 0; i < 20; i++) {
			deed d = deeds[below(a, KINDS)];
			struct range r = any(a);

			d(a, r);
			check_many(a, r);
		}
		usleep(1000);
	}
	check_many(a, (struct range){0, PAGES});
	return NULL;
}

/* Pages that go, and come back later, to neighbours that have stayed: for the kernel they are one
 * again, all of it. */
static void *wander(void *arg)
{
	struct area *a = arg;
	struct range all = {0, 3 * WANDERING}, home = {WANDERING, WANDERING},
		     away = {4 * WANDERING, WANDERING};

	map(a, all);
	while (!stop) {
		change_many(a, all);
		move_to(a, home, away, false);
		usleep(below(a, 30000));
		check_many(a, away);
		move_to(a, away, home, false);
		change_many(a, all);
		usleep(below(a, 10000));
		check_many(a, (struct range){0, 5 * WANDERING});
	}
	return NULL;
}

/* Far from where the kernel puts what nobody asks for a place of. */
static void start(struct area *a, unsigned i, uint64_t seed, void *(*fn)(void *area))
{
	*a = (struct area){.random = seed * THREADS + i,
			   .at = (void *)(0x200000000000 + i * 0x1000000000)};
	a->page = calloc(PAGES, sizeof(*a->page));
	MUST(pipe(a->pipe));
	set(a, (struct range){0, PAGES}, &(struct page){.prot = UNMAPPED});
	map(a, (struct range){0, PAGES / 2});
	change_many(a, (struct range){0, PAGES / 2});
	a->thread = subject_thread(fn, a);
}

/* Of a page that should be there. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	subject_fail("signal %d at %p", sig, info->si_addr);
}

int main(int argc, char **argv)
{
	struct area area[THREADS];
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;

	subject_init(argc, argv);
	sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO},
		  NULL);
	sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO},
		  NULL);
	for (unsigned i = 0; i < THREADS; i++)
		start(&area[i], i, seed, i ? mutate : wander);
	subject_ready();
	subject_wait();
	stop = true;
	for (unsigned i = 0; i < THREADS; i++)
		subject_join_thread(area[i].thread);
	subject_pass();
}
