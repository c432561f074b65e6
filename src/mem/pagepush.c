/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin pushes its pages into a file, group by group. One batch makes it write group n and look
 * for zero pages in group n + 2; while it does so, cpx selects group n + 3, finds room for group
 * n + 1 and deals with group n - 1, which is written.
 *
 * The first touch of a page by a new task costs as much as copying it does (its page table entry is
 * marked old by fork(), mm/memory.c), so of larger memories a second thread of the twin looks for
 * zero pages while the first writes. Nothing but results and page bitmaps comes back through the
 * mailbox, and both are checked against what was asked for.
 */
#include "mem/pages.h"

#include "base/log.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

struct push {
	struct pageout *p;
	struct twin *w;
	struct page_source *from;
	int fd; /* the twin's number of the file */
	const struct push_ops *ops;
	void *to;
	struct batch b;		     /* writes */
	struct batch scans;	     /* and drops: b itself, or the helper's */
	unsigned first_write;	     /* index of the call */
	uint64_t bitmap[GROUP_RUNS]; /* remote */
};

/* ---- reading is allowed ---- */

static bool is_unreadable(const Cpx__Vma *v)
{
	return !(v->prot & (PROT_READ | PROT_WRITE)); /* x86 reads what it may write */
}

static int check_opened(struct push *u, const Cpx__Vma *const *vma, struct err *err)
{
	int r = twin_run(u->w, &u->b, err);

	for (unsigned i = 0; i < u->b.n && r == 0; i++)
		if (batch_ret(&u->b, i) < 0)
			r = err_sys(err, (int)batch_ret(&u->b, i),
				    "its twin cannot read the mapping at %#lx",
				    (unsigned long)vma[i]->start);
	return r;
}

/* In the twin alone. Populated mappings without PROT_READ are rare. */
static int open_unreadable(struct push *u, const struct page_group *g, struct err *err)
{
	const Cpx__Vma *vma[GROUP_RUNS], *last = NULL;

	u->b = twin_batch(u->w);
	for (unsigned i = 0; i < g->n; i++) {
		const Cpx__Vma *v = g->run[i].vma;

		if (v == last || !is_unreadable(v))
			continue;
		vma[u->b.n] = last = v;
		BATCH_CALL(&u->b, SYS_mprotect, v->start, v->end - v->start, PROT_READ);
	}
	return u->b.n ? check_opened(u, vma, err) : 0;
}

/* ---- zero pages ---- */

static void add_scans(struct push *u, const struct page_group *g)
{
	for (unsigned i = 0; i < g->n; i++) {
		uint64_t pages = g->run[i].len / CPX_PAGE_SIZE;

		u->bitmap[i] = batch_out(&u->scans, ALIGN_UP(pages, 64UL) / 8);
		BATCH_CALL(&u->scans, CALL_ZERO_SCAN, g->run[i].addr, pages, u->bitmap[i]);
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

static int take_run(struct push *u, struct push_group *g, unsigned i, struct err *err)
{
	const struct page_run *run = &g->pages.run[i];
	const uint64_t *map = batch_local(&u->scans, u->bitmap[i]);
	uint64_t n = run->len / CPX_PAGE_SIZE;
	int r = 0;

	for (uint64_t at = 0, len; at < n && r == 0; at += len) {
		len = stretch(map, at, n);
		r = take_stretch(u, g, run, bit(map, at), run->addr + at * CPX_PAGE_SIZE,
				 len * CPX_PAGE_SIZE, err);
	}
	return r;
}

/* Without scans all pages are alike. */
static int take_all(struct push_group *g, struct err *err)
{
	for (unsigned i = 0; i < g->pages.n; i++)
		if (page_chunks_add(&g->chunks, g->pages.run[i].addr, g->pages.run[i].len) < 0)
			return err_nomem(err);
	return 0;
}

static int take_scans(struct push *u, struct push_group *g, struct err *err)
{
	int r = 0;

	page_chunks_clear(&g->chunks);
	if (!u->ops->zero)
		return take_all(g, err);
	for (unsigned i = 0; i < g->pages.n && r == 0; i++)
		r = take_run(u, g, i, err);
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

static void add_write(struct push *u, const struct push_group *g, size_t i, uint64_t done)
{
	struct iovec v[EXTENTS_MAX];
	unsigned n = fill_iovec(v, g, &g->chunks.chunk[i], done);
	uint64_t remote = batch_in(&u->b, v, n * sizeof(*v));

	BATCH_CALL(&u->b, SYS_pwritev, (uint32_t)u->fd, remote, n, g->at[i] + done);
}

static void add_writes(struct push *u, const struct push_group *g)
{
	u->first_write = u->b.n;
	for (size_t i = 0; i < g->chunks.n; i++)
		add_write(u, g, i, 0);
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
static int finish_write(struct push *u, const struct push_group *g, size_t i, int64_t result,
			struct err *err)
{
	uint64_t done = 0, bytes = g->chunks.chunk[i].bytes;
	int r;

	for (;;) {
		if (result > 0 && (uint64_t)result <= bytes - done)
			done += (uint64_t)result;
		else if (result != -EINTR && result != -EAGAIN)
			return write_failed(g, i, result, err);
		if (done == bytes)
			return 0;
		u->b = twin_batch(u->w);
		add_write(u, g, i, done);
		r = twin_run(u->w, &u->b, err);
		if (r < 0)
			return r;
		result = batch_ret(&u->b, 0);
	}
}

/* Takes the results out of the mailbox before any write is gone on with, which needs it. */
static int check_writes(struct push *u, const struct push_group *g, struct err *err)
{
	_cleanup_free_ int64_t *result = malloc((g->chunks.n + 1) * sizeof(*result));
	int r = result ? 0 : err_nomem(err);

	for (size_t i = 0; i < g->chunks.n && r == 0; i++)
		result[i] = batch_ret(&u->b, u->first_write + (unsigned)i);
	for (size_t i = 0; i < g->chunks.n && r == 0; i++)
		if (result[i] != g->chunks.chunk[i].bytes)
			r = finish_write(u, g, i, result[i], err);
	return r;
}

/* ---- giving back ---- */

static void add_drop(struct push *u, uint64_t start, uint64_t end)
{
	BATCH_CALL(&u->scans, SYS_madvise, start, end - start, MADV_DONTNEED);
}

/*
 * Pages that are safe in the file are of no more use to the twin; without them the original may
 * write to its own ones without the kernel's making copies. One call a mapping: what lies between
 * its runs is zero, never populated, or written before.
 */
static void add_drops(struct push *u, const struct page_group *g)
{
	for (unsigned i = 0, k; i < g->n; i = k) {
		for (k = i + 1; k < g->n && g->run[k].vma == g->run[i].vma; k++)
			;
		add_drop(u, g->run[i].addr, g->run[k - 1].addr + g->run[k - 1].len);
	}
}

/* ---- the loop ---- */

static int place(struct push *u, struct push_group *g, struct err *err)
{
	if (grow(&g->at, &g->max_at, g->chunks.n, sizeof(*g->at)) < 0 ||
	    grow(&g->handle, &g->max_handle, g->chunks.n, sizeof(*g->handle)) < 0)
		return err_nomem(err);
	return g->chunks.n ? u->ops->place(u->to, g, err) : 0;
}

/* The groups that a step works on, each one step behind the one before. */
struct stages {
	struct push_group *planning, *scanning, *placing, *writing, *written;
};

static int plan(struct push *u, struct push_group *g, struct err *err)
{
	return u->from->next(u->from, u->ops->group_bytes, &g->pages, err);
}

/* While the twin runs its batch. */
static int meanwhile(struct push *u, const struct stages *s, struct err *err)
{
	int r = place(u, s->placing, err);

	if (r == 0)
		r = plan(u, s->planning, err);
	if (r == 0 && s->written->chunks.n && u->ops->after)
		r = u->ops->after(u->to, s->written, err);
	return r;
}

/* Afterwards. Scans first: going on with a short write reuses the mailbox. */
static int take_results(struct push *u, const struct stages *s, struct err *err)
{
	int r = take_scans(u, s->scanning, err);

	if (r == 0)
		r = check_writes(u, s->writing, err);
	if (r == 0 && s->writing->chunks.n && u->ops->before)
		r = u->ops->before(u->to, s->writing, err);
	return r;
}

static void fill_batches(struct push *u, const struct stages *s)
{
	u->b = twin_batch(u->w);
	add_writes(u, s->writing);
	u->scans = u->w->has_helper ? twin_helper_batch(u->w) : u->b;
	if (u->ops->zero)
		add_scans(u, &s->scanning->pages);
	if (u->ops->gives_back && (u->b.n || u->scans.n)) /* else it is about to end anyway */
		add_drops(u, &s->written->pages);
	if (!u->w->has_helper)
		u->b = u->scans;
}

static int post(struct push *u, struct err *err)
{
	int r = u->b.n ? twin_post(u->w, &u->b, err) : 0;

	if (r == 0 && u->w->has_helper && u->scans.n)
		r = twin_helper_post(u->w, &u->scans, err);
	return r;
}

static int wait(struct push *u, struct err *err)
{
	int r = u->b.n ? twin_wait(u->w, err) : 0;

	if (r == 0 && u->w->has_helper && u->scans.n)
		r = twin_helper_wait(u->w, err);
	return r;
}

/* A second thread pays where there are groups to come. Without one it takes longer. */
static void want_helper(struct push *u, const struct page_group *g)
{
	struct err err = ERR_INIT;

	if (u->ops->zero && !u->w->has_helper && g->bytes == u->ops->group_bytes &&
	    twin_helper_start(u->w, &err) < 0)
		log_debug("a twin without a helper: %s", err.msg);
}

static int step(struct push *u, const struct stages *s, struct err *err)
{
	int r = open_unreadable(u, &s->scanning->pages, err);

	if (r < 0)
		return r;
	want_helper(u, &s->scanning->pages);
	fill_batches(u, s);
	r = post(u, err);
	if (r == 0)
		r = meanwhile(u, s, err);
	if (r == 0)
		r = wait(u, err);
	if (r == 0)
		r = take_results(u, s, err);
	return r < 0 ? r : pageout_step(u->p, s->writing->pages.bytes, err);
}

static int push_all(struct push *u, struct push_group g[PUSH_DEPTH], struct err *err)
{
	unsigned idle = 0; /* steps since there were pages */
	int r = plan(u, &g[0], err);

	for (unsigned i = 1; r == 0 && idle < PUSH_DEPTH; i++) {
		const struct stages s = {
			.planning = &g[i % PUSH_DEPTH],
			.scanning = &g[(i + PUSH_DEPTH - 1) % PUSH_DEPTH],
			.placing = &g[(i + PUSH_DEPTH - 2) % PUSH_DEPTH],
			.writing = &g[(i + PUSH_DEPTH - 3) % PUSH_DEPTH],
			.written = &g[(i + PUSH_DEPTH - 4) % PUSH_DEPTH],
		};

		idle = s.scanning->pages.n ? 0 : idle + 1;
		r = step(u, &s, err);
	}
	return r;
}

static void release_groups(struct push_group *g)
{
	for (unsigned i = 0; i < PUSH_DEPTH; i++) {
		page_chunks_release(&g[i].chunks);
		free(g[i].at);
		free(g[i].handle);
	}
	free(g);
}

int page_push(struct pageout *p, struct twin *w, struct page_source *from, int remote_fd,
	      const struct push_ops *ops, void *to, struct err *err)
{
	struct push u = {.p = p, .w = w, .from = from, .fd = remote_fd, .ops = ops, .to = to};
	struct push_group *g = calloc(PUSH_DEPTH, sizeof(*g));
	int r;

	if (!g)
		return err_nomem(err);
	r = push_all(&u, g, err);
	release_groups(g);
	return r;
}
