/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin pushes its pages into a file, group by group. Larger memories are pushed by two threads of
 * it, its *hands*, that take turns: a hand looks for zero pages in one group and writes the group
 * before, of which this is known. Only one of them can write to a file at a time (the lock of the
 * inode): while it does, the other looks, and makes the checksums, which brings the pages into its
 * cache; the first touch of a page by a new task costs as much as copying it does (its page table entry
 * is marked old by fork(), mm/memory.c). cpx hands out the work and deals with what is written.
 *
 * Nothing but results, checksums and page bitmaps comes back through the mailbox; results and bitmaps
 * are checked against what was asked for.
 */
#include "mem/pages.h"

#include "base/log.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define HANDS 2

struct hand {
	bool is_helper;
	struct batch b;
	struct push_group *scanning, *writing; /* by the batch under way; may be NULL */
	unsigned first_write;		       /* index of the call */
	uint64_t bitmap[GROUP_RUNS];	       /* remote */
};

struct push {
	struct pageout *p;
	struct twin *w;
	struct page_source *from;
	int fd; /* the twin's number of the file */
	const struct push_ops *ops;
	uint64_t group_bytes;
	void *to;
	struct hand hand[HANDS];
	unsigned nhands;
	struct push_group group[PUSH_DEPTH];
};

static struct batch hand_batch(const struct push *u, const struct hand *h)
{
	return h->is_helper ? twin_helper_batch(u->w) : twin_batch(u->w);
}

static int hand_post(const struct push *u, const struct hand *h, struct err *err)
{
	return h->is_helper ? twin_helper_post(u->w, &h->b, err) : twin_post(u->w, &h->b, err);
}

static int hand_wait(const struct push *u, const struct hand *h, struct err *err)
{
	return h->is_helper ? twin_helper_wait(u->w, err) : twin_wait(u->w, err);
}

static int hand_run(const struct push *u, const struct hand *h, struct err *err)
{
	int r = hand_post(u, h, err);

	return r < 0 ? r : hand_wait(u, h, err);
}

/* ---- reading is allowed ---- */

static bool is_unreadable(const Cpx__Vma *v)
{
	return !(v->prot & (PROT_READ | PROT_WRITE)); /* x86 reads what it may write */
}

static int check_opened(struct push *u, struct hand *h, const Cpx__Vma *const *vma, struct err *err)
{
	int r = hand_run(u, h, err);

	for (unsigned i = 0; i < h->b.n && r == 0; i++)
		if (batch_ret(&h->b, i) < 0)
			r = err_sys(err, (int)batch_ret(&h->b, i),
				    "its twin cannot read the mapping at %#lx",
				    (unsigned long)vma[i]->start);
	return r;
}

/* In the twin alone. Populated mappings without PROT_READ are rare. */
static int open_unreadable(struct push *u, struct hand *h, const struct page_group *g,
			   struct err *err)
{
	const Cpx__Vma *vma[GROUP_RUNS], *last = NULL;

	h->b = hand_batch(u, h);
	for (unsigned i = 0; i < g->n; i++) {
		const Cpx__Vma *v = g->run[i].vma;

		if (v == last || !is_unreadable(v))
			continue;
		vma[h->b.n] = last = v;
		BATCH_CALL(&h->b, SYS_mprotect, v->start, v->end - v->start, PROT_READ);
	}
	return h->b.n ? check_opened(u, h, vma, err) : 0;
}

/* ---- zero pages ---- */

static void add_scans(struct hand *h)
{
	const struct page_group *g = &h->scanning->pages;

	for (unsigned i = 0; i < g->n; i++) {
		uint64_t pages = g->run[i].len / CPX_PAGE_SIZE;

		h->bitmap[i] = batch_out(&h->b, ALIGN_UP(pages, 64UL) / 8);
		BATCH_CALL(&h->b, CALL_ZERO_SCAN, g->run[i].addr, pages, h->bitmap[i]);
	}
}

static bool bit(const uint64_t *map, uint64_t i)
{
	return map[i / 64] >> i % 64 & 1;
}

/* How many pages from `from` on are alike. */
static uint64_t stretch(const uint64_t *map, uint64_t from, uint64_t n)
{
	uint64_t i = from + 1;

	while (i < n && bit(map, i) == bit(map, from))
		i++;
	return i - from;
}

static int take_stretch(struct push *u, struct push_group *g, const struct page_run *run,
			bool is_zero, uint64_t addr, uint64_t len, struct err *err)
{
	if (is_zero)
		return u->ops->zero(u->to, run, addr, len, err);
	return page_chunks_add(&g->chunks, addr, len) < 0 ? err_nomem(err) : 0;
}

static int take_run(struct push *u, struct hand *h, unsigned i, struct err *err)
{
	const struct page_run *run = &h->scanning->pages.run[i];
	const uint64_t *map = batch_local(&h->b, h->bitmap[i]);
	uint64_t n = run->len / CPX_PAGE_SIZE;
	int r = 0;

	for (uint64_t at = 0, len; at < n && r == 0; at += len) {
		len = stretch(map, at, n);
		r = take_stretch(u, h->scanning, run, bit(map, at), run->addr + at * CPX_PAGE_SIZE,
				 len * CPX_PAGE_SIZE, err);
	}
	return r;
}

static int take_scans(struct push *u, struct hand *h, struct err *err)
{
	int r = 0;

	page_chunks_clear(&h->scanning->chunks);
	for (unsigned i = 0; i < h->scanning->pages.n && r == 0; i++)
		r = take_run(u, h, i, err);
	return r;
}

/* ---- writing ---- */

/* The extents of a chunk but for the first `done` bytes, as the twin's iovec. Returns how many. */
static unsigned fill_iovec(struct iovec *v, const struct push_group *g, const struct page_chunk *c,
			   uint64_t done)
{
	const struct extent *e = g->chunks.ext + c->first;
	unsigned n = 0;

	for (unsigned i = 0; i < c->n; i++) {
		uint64_t skip = MIN(done, e[i].len);

		done -= skip;
		if (skip < e[i].len)
			v[n++] = (struct iovec){(void *)(uintptr_t)(e[i].addr + skip),
						e[i].len - skip};
	}
	return n;
}

/* secret: 0: no checksum. */
static void add_write(struct push *u, struct hand *h, size_t i, uint64_t done, uint64_t secret)
{
	struct push_group *g = h->writing;
	const struct page_chunk *c = &g->chunks.chunk[i];
	struct iovec v[EXTENTS_MAX];
	unsigned n = fill_iovec(v, g, c, done);
	uint64_t remote = batch_in(&h->b, v, n * sizeof(*v));

	if (secret)
		g->sum[i] = twin_hash_add(&h->b, remote, c->bytes, secret);
	BATCH_CALL(&h->b, SYS_pwritev, (uint32_t)u->fd, remote, n, g->at[i] + done);
}

static void add_writes(struct push *u, struct hand *h)
{
	uint64_t secret = u->ops->has_sums ? twin_hash_secret(&h->b) : 0;

	h->first_write = h->b.n;
	for (size_t i = 0; i < h->writing->chunks.n; i++)
		add_write(u, h, i, 0, secret);
}

static int write_failed(const struct push_group *g, size_t i, int64_t code, struct err *err)
{
	uint64_t addr = g->chunks.ext[g->chunks.chunk[i].first].addr;

	if (code == -EFAULT)
		return err_sys(err, -EFAULT, "cannot read its memory at or after %#lx",
			       (unsigned long)addr);
	return err_sys(err, code < 0 ? (int)code : -EIO, "cannot write the image");
}

/* A write that stopped short is gone on with, which shows why it stopped. */
static int finish_write(struct push *u, struct hand *h, size_t i, int64_t result, struct err *err)
{
	uint64_t done = 0, bytes = h->writing->chunks.chunk[i].bytes;
	int r;

	for (;;) {
		if (result > 0 && (uint64_t)result <= bytes - done)
			done += (uint64_t)result;
		else if (result != -EINTR && result != -EAGAIN)
			return write_failed(h->writing, i, result, err);
		if (done == bytes)
			return 0;
		h->b = hand_batch(u, h);
		add_write(u, h, i, done, 0);
		r = hand_run(u, h, err);
		if (r < 0)
			return r;
		result = batch_ret(&h->b, 0);
	}
}

static int64_t take_write(const struct push *u, struct hand *h, size_t i)
{
	struct push_group *g = h->writing;

	if (!u->ops->has_sums)
		return batch_ret(&h->b, h->first_write + (unsigned)i);
	g->sum[i] = twin_hash_result(&h->b, g->sum[i], g->chunks.chunk[i].bytes);
	return batch_ret(&h->b, h->first_write + 2 * (unsigned)i + 1);
}

/* Takes the results out of the mailbox before any write is gone on with, which needs it. */
static int check_writes(struct push *u, struct hand *h, struct err *err)
{
	const struct page_chunks *c = &h->writing->chunks;
	_cleanup_free_ int64_t *result = malloc((c->n + 1) * sizeof(*result));
	int r = result ? 0 : err_nomem(err);

	for (size_t i = 0; i < c->n && r == 0; i++)
		result[i] = take_write(u, h, i);
	for (size_t i = 0; i < c->n && r == 0; i++)
		if (result[i] != c->chunk[i].bytes)
			r = finish_write(u, h, i, result[i], err);
	return r;
}

/* ---- giving back ---- */

/*
 * Pages that are safe in the file are of no more use to the twin; without them the original may
 * write to its own ones without the kernel's making copies. One call a mapping: what lies between
 * its runs is zero, never populated, or written before.
 */
static void add_drops(struct hand *h, const struct page_group *g)
{
	for (unsigned i = 0, k; i < g->n; i = k) {
		uint64_t start = g->run[i].addr;

		for (k = i + 1; k < g->n && g->run[k].vma == g->run[i].vma; k++)
			;
		BATCH_CALL(&h->b, SYS_madvise, start,
			   g->run[k - 1].addr + g->run[k - 1].len - start, MADV_DONTNEED);
	}
}

/* ---- groups ---- */

static int place(struct push *u, struct push_group *g, struct err *err)
{
	size_t n = g->chunks.n;

	if (grow(&g->at, &g->max_at, n, sizeof(*g->at)) < 0 ||
	    grow(&g->sum, &g->max_sum, n, sizeof(*g->sum)) < 0 ||
	    grow(&g->handle, &g->max_handle, n, sizeof(*g->handle)) < 0)
		return err_nomem(err);
	return n ? u->ops->place(u->to, g, err) : 0;
}

/* Without scans all pages are alike. */
static int take_all(struct push_group *g, struct err *err)
{
	page_chunks_clear(&g->chunks);
	for (unsigned i = 0; i < g->pages.n; i++)
		if (page_chunks_add(&g->chunks, g->pages.run[i].addr, g->pages.run[i].len) < 0)
			return err_nomem(err);
	return 0;
}

/* Everything about the next group that can be known before a hand is free. */
static int plan(struct push *u, struct push_group *g, struct err *err)
{
	int r = u->from->next(u->from, u->group_bytes, &g->pages, err);

	if (r == 0 && !u->ops->zero)
		r = take_all(g, err);
	return r == 0 && !u->ops->zero ? place(u, g, err) : r;
}

/* ---- the loop ---- */

/* What the hand has done: pages known to be zero or not, and pages written. Scans first: going on with a
 * short write reuses the mailbox. */
static int take_results(struct push *u, struct hand *h, struct err *err)
{
	int r = h->b.n ? hand_wait(u, h, err) : 0;

	if (r == 0 && h->scanning)
		r = take_scans(u, h, err);
	if (r == 0 && h->writing)
		r = check_writes(u, h, err);
	if (r == 0 && h->writing && u->ops->before)
		r = u->ops->before(u->to, h->writing, err);
	return r;
}

/* What the hand does next: g, and what it knows more about than before. */
static int give_work(struct push *u, struct hand *h, struct push_group *g, struct err *err)
{
	struct push_group *written = h->writing;
	int r = open_unreadable(u, h, &g->pages, err);

	h->writing = u->ops->zero ? h->scanning : g;
	h->scanning = u->ops->zero ? g : NULL;
	if (r == 0 && h->writing && u->ops->zero)
		r = place(u, h->writing, err);
	if (r < 0)
		return r;
	h->b = hand_batch(u, h);
	if (h->writing)
		add_writes(u, h);
	if (h->scanning)
		add_scans(h);
	if (written && u->ops->gives_back && h->b.n) /* else it is about to end anyway */
		add_drops(h, &written->pages);
	return h->b.n ? hand_post(u, h, err) : 0;
}

static int step(struct push *u, struct hand *h, struct push_group *g, struct push_group *next,
		struct err *err)
{
	struct push_group *written = h->writing;
	int r = take_results(u, h, err);

	if (r == 0)
		r = give_work(u, h, g, err);
	if (r == 0)
		r = plan(u, next, err);
	if (r == 0 && written && written->chunks.n && u->ops->after)
		r = u->ops->after(u->to, written, err);
	return r < 0 || !written ? r : pageout_step(u->p, written->pages.bytes, err);
}

/* A second hand pays where there are groups to come. Without one it takes longer. */
static void start_hands(struct push *u)
{
	const struct page_group *g = &u->group[0].pages;
	bool is_large = g->bytes == u->group_bytes || g->n == GROUP_RUNS;
	struct err err = ERR_INIT;

	u->nhands = 1;
	if (!is_large || !u->ops->zero)
		return;
	if (twin_helper_start(u->w, &err) == 0)
		u->nhands = 2;
	else
		log_debug("a twin without a helper: %s", err.msg);
	u->hand[1].is_helper = true;
}

static int push_all(struct push *u, struct err *err)
{
	unsigned idle = 0; /* steps since there were pages */
	int r = plan(u, &u->group[0], err);

	start_hands(u);
	for (unsigned i = 0; r == 0 && idle <= 2 * u->nhands; i++) {
		struct push_group *g = &u->group[i % PUSH_DEPTH];

		idle = g->pages.n ? 0 : idle + 1;
		r = step(u, &u->hand[i % u->nhands], g, &u->group[(i + 1) % PUSH_DEPTH], err);
	}
	return r;
}

static void push_free(struct push *u)
{
	for (unsigned i = 0; i < PUSH_DEPTH; i++) {
		page_chunks_release(&u->group[i].chunks);
		free(u->group[i].at);
		free(u->group[i].sum);
		free(u->group[i].handle);
	}
	free(u);
}

int page_push(struct pageout *p, struct twin *w, struct page_source *from, int remote_fd,
	      const struct push_ops *ops, void *to, struct err *err)
{
	struct push *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return err_nomem(err);
	u->p = p;
	u->w = w;
	u->from = from;
	u->fd = remote_fd;
	u->ops = ops;
	u->group_bytes = p->group_max ? MIN(p->group_max, ops->group_bytes) : ops->group_bytes;
	u->to = to;
	r = push_all(u, err);
	push_free(u);
	return r;
}
