/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin pushes its pages into a file, group by group. Larger memories are pushed by two threads of
 * it, its *hands*: one looks for zero pages in a group and makes the checksums of the group before, the
 * other does nothing but write, one group behind. So there is always one who writes, there is nobody whom
 * he has to share the inode's lock with, and the pages that he writes have been touched: the first touch of a
 * page by a new task may cost as much as copying it does (its page table entry is marked old by fork(),
 * mm/memory.c; and a hypervisor without nested page tables has to make its own). A small memory has one
 * hand for both. cpx hands out the work and deals with what is written.
 *
 * Nothing but results, checksums and page bitmaps comes back through the mailbox; results and bitmaps
 * are checked against what was asked for.
 */
#include "mem/pages.h"

#include "base/log.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

struct hand {
	bool is_helper;
	struct batch b; /* under way, if it has calls */
	/* what the batch does; may be NULL */
	struct push_group *scanning, *hashing, *writing;
	unsigned first_write;	     /* index of the call */
	uint64_t bitmap[GROUP_RUNS]; /* remote */
};

struct push {
	struct pageout *p;
	struct twin *w;
	struct page_source *from;
	int fd; /* the twin's number of the file */
	const struct push_ops *ops;
	uint64_t group_bytes;
	void *to;
	struct hand hand[2];
	struct hand *looker, *writer; /* may be the same */
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

static uint64_t add_iovec(struct hand *h, const struct push_group *g, const struct page_chunk *c,
			  uint64_t done, unsigned *ret_n)
{
	struct iovec v[EXTENTS_MAX];

	*ret_n = fill_iovec(v, g, c, done);
	return batch_in(&h->b, v, *ret_n * sizeof(*v));
}

static void add_write(struct push *u, struct hand *h, size_t i, uint64_t done)
{
	struct push_group *g = h->writing;
	unsigned n;
	uint64_t remote = add_iovec(h, g, &g->chunks.chunk[i], done, &n);

	BATCH_CALL(&h->b, SYS_pwritev, (uint32_t)u->fd, remote, n, g->at[i] + done);
}

static void add_writes(struct push *u, struct hand *h)
{
	h->first_write = h->b.n;
	for (size_t i = 0; i < h->writing->chunks.n; i++)
		add_write(u, h, i, 0);
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
		add_write(u, h, i, done);
		r = hand_run(u, h, err);
		if (r < 0)
			return r;
		result = batch_ret(&h->b, 0);
	}
}

/* Takes the results out of the mailbox before any write is gone on with, which needs it. */
static int check_writes(struct push *u, struct hand *h, struct err *err)
{
	const struct page_chunks *c = &h->writing->chunks;
	_cleanup_free_ int64_t *result = malloc((c->n + 1) * sizeof(*result));
	int r = result ? 0 : err_nomem(err);

	for (size_t i = 0; i < c->n && r == 0; i++)
		result[i] = batch_ret(&h->b, h->first_write + (unsigned)i);
	for (size_t i = 0; i < c->n && r == 0; i++)
		if (result[i] != c->chunk[i].bytes)
			r = finish_write(u, h, i, result[i], err);
	return r;
}

/* ---- checksums ---- */

static void add_hashes(struct hand *h)
{
	const struct push_group *g = h->hashing;
	uint64_t secret = twin_hash_secret(&h->b);
	unsigned n;

	for (size_t i = 0; i < g->chunks.n; i++) {
		const struct page_chunk *c = &g->chunks.chunk[i];

		g->sum[i] = twin_hash_add(&h->b, add_iovec(h, g, c, 0, &n), c->bytes, secret);
	}
}

static void take_hashes(struct hand *h)
{
	const struct push_group *g = h->hashing;

	for (size_t i = 0; i < g->chunks.n; i++)
		g->sum[i] = twin_hash_result(&h->b, g->sum[i], g->chunks.chunk[i].bytes);
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

/* What the hand has done. Writes last: going on with a short one reuses the mailbox. */
static int take_results(struct push *u, struct hand *h, struct err *err)
{
	int r = h->b.n ? hand_wait(u, h, err) : 0;

	if (r == 0 && h->scanning)
		r = take_scans(u, h, err);
	if (r == 0 && h->hashing)
		take_hashes(h);
	if (r == 0 && h->writing)
		r = check_writes(u, h, err);
	h->b.n = 0;
	return r;
}

/* drop: written before. */
static int give_work(struct push *u, struct hand *h, const struct push_group *drop, struct err *err)
{
	h->b = hand_batch(u, h);
	if (h->hashing)
		add_hashes(h);
	if (h->writing)
		add_writes(u, h);
	if (h->scanning)
		add_scans(h);
	if (drop && u->ops->gives_back && h->b.n) /* else it is about to end anyway */
		add_drops(h, &drop->pages);
	return h->b.n ? hand_post(u, h, err) : 0;
}

/* The looker goes on to the next group. Where it is the writer too it takes the writing along. */
static int look_on(struct push *u, struct push_group *g, struct push_group *next,
		   const struct push_group *written, struct err *err)
{
	struct hand *h = u->looker;
	bool is_alone = h == u->writer;
	int r = open_unreadable(u, h, u->ops->zero ? &next->pages : &g->pages, err);

	h->hashing = u->ops->has_sums ? g : NULL;
	h->scanning = u->ops->zero ? next : NULL;
	h->writing = is_alone ? g : NULL;
	return r < 0 ? r : give_work(u, h, is_alone ? written : NULL, err);
}

static int write_on(struct push *u, struct push_group *g, struct err *err)
{
	int r;

	if (u->looker == u->writer)
		return 0;
	r = take_results(u, u->writer, err);
	u->writer->writing = g;
	return r < 0 ? r : give_work(u, u->writer, NULL, err);
}

static int finish(struct push *u, struct push_group *g, struct err *err)
{
	int r = g->chunks.n && u->ops->after ? u->ops->after(u->to, g, err) : 0;

	return r < 0 ? r : pageout_step(u->p, g->pages.bytes, err);
}

/* g is about to be written: what is zero in it is known, or is being found out. The group before is being written, and
 * that is waited for; the next one is planned, and so will be the one after that. */
static int step(struct push *u, struct push_group *written, struct push_group *g,
		struct push_group *next, struct push_group *later, struct err *err)
{
	int r = take_results(u, u->looker, err);

	if (r == 0 && written && u->ops->before)
		r = u->ops->before(u->to, written, err);
	if (r == 0 && u->ops->zero)
		r = place(u, g, err);
	if (r == 0)
		r = look_on(u, g, next, written, err);
	if (r == 0)
		r = write_on(u, g, err);
	if (r == 0)
		r = plan(u, later, err);
	return r < 0 || !written ? r : finish(u, written, err);
}

/* A second hand pays where there are groups to come. Without one it takes longer. */
static void start_hands(struct push *u)
{
	const struct page_group *g = &u->group[0].pages;
	bool is_large = g->bytes == u->group_bytes || g->n == GROUP_RUNS;
	struct err err = ERR_INIT;

	u->looker = u->writer = &u->hand[0];
	if (!is_large || !u->ops->zero)
		return;
	if (twin_helper_start(u->w, &err) == 0)
		u->looker = &u->hand[1];
	else
		log_debug("a twin without a helper: %s", err.msg);
	u->hand[1].is_helper = true;
}
/* What is about to be written must have been looked at, if that is done at all. */
static int push_begin(struct push *u, unsigned *ret_ahead, struct err *err)
{
	int r = plan(u, &u->group[0], err);

	start_hands(u);
	*ret_ahead = u->ops->zero ? 2 : 1;
	if (r < 0 || !u->ops->zero)
		return r;
	r = open_unreadable(u, u->looker, &u->group[0].pages, err);
	u->looker->scanning = &u->group[0];
	if (r == 0)
		r = give_work(u, u->looker, NULL, err);
	return r < 0 ? r : plan(u, &u->group[1], err);
}

static int push_all(struct push *u, struct err *err)
{
	struct push_group *written = NULL, *g = u->group;
	unsigned ahead;
	int r = push_begin(u, &ahead, err);

	for (unsigned i = 0; r == 0; i++) {
		g = &u->group[i % PUSH_DEPTH];
		r = step(u, written, g, &u->group[(i + 1) % PUSH_DEPTH],
			 &u->group[(i + ahead) % PUSH_DEPTH], err);
		if (!g->pages.n)
			break;
		written = g;
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
