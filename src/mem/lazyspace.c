/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the memory is that has not been filled yet: tables of spans (address to chunk) and, for each
 * chunk, a bitmap of the pages that are still to come. A page that is there, dropped or unmapped loses
 * its bit and is never filled again; only mremap(2) changes the table.
 *
 * All of it lies in one MAP_SHARED mapping, used from the front; what is not needed any more is given
 * back by MADV_REMOVE.
 */
#include "mem/lazy.h"

#include "base/util.h"

#include <sys/mman.h>

#define LARGEST	 (64UL << 30) /* of addresses: memory is used as it is touched */
#define SMALLEST (64UL << 20)

/* ---- shared memory ------------------------------------------------------------------------------ */

int lazy_state_new(struct lazy_state **ret, struct err *err)
{
	struct lazy_state *st = MAP_FAILED;
	uint64_t size = LARGEST * 2;

	while (st == MAP_FAILED && size > SMALLEST) {
		size /= 2;
		st = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	if (st == MAP_FAILED)
		return err_sys(err, -errno, "cannot map memory");
	st->size = size;
	st->used = ALIGN_UP(sizeof(*st), CPX_PAGE_SIZE);
	*ret = st;
	return 0;
}

void lazy_state_free(struct lazy_state *st)
{
	if (st)
		munmap(st, st->size);
}

/* Zeroed. */
static void *take(struct lazy_state *st, uint64_t size, struct err *err)
{
	void *p = (uint8_t *)st + st->used;

	size = ALIGN_UP(size, CPX_PAGE_SIZE);
	if (size > st->size - st->used) {
		err_set(err, -ENOMEM, "the table of missing memory is full");
		return NULL;
	}
	st->used += size;
	return p;
}

static void give_back(void *p, uint64_t size)
{
	if (p)
		madvise(p, ALIGN_UP(size, CPX_PAGE_SIZE), MADV_REMOVE);
}

static uint64_t table_size(size_t n)
{
	return sizeof(struct lazy_table) + n * sizeof(struct lazy_span);
}

static struct lazy_table *new_table(struct lazy_state *st, size_t n, struct err *err)
{
	struct lazy_table *t = take(st, table_size(n), err);

	if (t)
		t->seq = st->seq;
	return t;
}

/* ---- pages -------------------------------------------------------------------------------------- */

static unsigned page_of(uint64_t from)
{
	return (unsigned)(from / CPX_PAGE_SIZE);
}

static uint64_t *bits_of(const struct lazy_space *s, const struct lazy_span *p)
{
	return s->undone[p->chunk - s->first];
}

static void set_undone(struct lazy_space *s, const struct lazy_span *p)
{
	lazy_bits_set(bits_of(s, p), page_of(p->from), page_of(p->from + p->len));
	s->left += page_of(p->len);
}

void lazy_space_recount(struct lazy_space *s)
{
	uint64_t left = 0;

	for (uint32_t c = 0; c < s->nchunks; c++)
		for (size_t w = 0; w < LAZY_WORDS; w++)
			left += (uint64_t)__builtin_popcountll(s->undone[c][w]);
	s->left = left;
	s->cursor = 0;
}

/* ---- spaces ------------------------------------------------------------------------------------- */

static struct lazy_space *free_slot(struct lazy_state *st, struct err *err)
{
	for (uint32_t i = 0; i < LAZY_SPACES; i++)
		if (st->space[i].state == LAZY_UNUSED ||
		    (st->space[i].state == LAZY_ENDED && st->space[i].uffd < 0)) {
			st->nspaces = MAX(st->nspaces, i + 1);
			return &st->space[i];
		}
	err_set(err, -ENOMEM, "too many tasks at a time miss memory");
	return NULL;
}

/* Memory for them; *ret is not in use before its state says so. */
static int start_space(struct lazy_state *st, size_t spans, uint32_t nchunks, struct lazy_space **ret,
		       struct lazy_space *slot, struct err *err)
{
	*ret = free_slot(st, err);
	if (!*ret)
		return -ENOMEM;
	*slot = (struct lazy_space){.uffd = -1, .seq = st->seq, .nchunks = nchunks};
	slot->table = new_table(st, spans, err);
	slot->undone = slot->table ? take(st, nchunks * sizeof(*slot->undone), err) : NULL;
	return slot->undone ? 0 : -ENOMEM;
}

/* By one store, which comes last. */
static void publish(struct lazy_space *to, const struct lazy_space *s, int state)
{
	__atomic_store_n(&to->state, LAZY_UNUSED, __ATOMIC_RELEASE);
	*to = *s; /* UNUSED too */
	__atomic_store_n(&to->state, state, __ATOMIC_RELEASE);
}

static void fill_space(struct lazy_space *s, const struct lazy_spans *l)
{
	s->table->n = l->n;
	memcpy(s->table->span, l->span, l->n * sizeof(*l->span));
	for (size_t i = 0; i < l->n; i++)
		set_undone(s, &l->span[i]);
}

static void span_of_chunks(const struct lazy_spans *l, uint32_t *ret_first, uint32_t *ret_n)
{
	uint32_t first = UINT32_MAX, end = 0;

	for (size_t i = 0; i < l->n; i++) {
		first = MIN(first, l->span[i].chunk);
		end = MAX(end, l->span[i].chunk + 1);
	}
	*ret_first = first;
	*ret_n = end - first;
}

int lazy_space_add(struct lazy_state *st, const struct image *im, const struct lazy_choice *c,
		   uint32_t mm, struct err *err)
{
	struct lazy_spans l = {0};
	struct lazy_space *to, s;
	uint32_t first, n;
	int r = lazy_collect(im, c, mm, &l, err);

	if (r == 0 && l.n) {
		span_of_chunks(&l, &first, &n);
		r = start_space(st, l.n, n, &to, &s, err);
		if (r == 0) {
			s.mm = mm;
			s.first = first;
			fill_space(&s, &l);
			publish(to, &s, LAZY_WAITING);
		}
	}
	free(l.span);
	return r;
}

void lazy_space_end(struct lazy_space *s)
{
	__atomic_store_n(&s->state, LAZY_ENDED, __ATOMIC_RELEASE);
	s->left = 0;
	give_back(s->undone, s->nchunks * sizeof(*s->undone));
	give_back(s->table, table_size(s->table->n));
}

/* ---- finding ------------------------------------------------------------------------------------ */

/* The first span that ends above addr. */
static size_t span_at(const struct lazy_table *t, uint64_t addr)
{
	size_t lo = 0, hi = t->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->span[mid].addr + t->span[mid].len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void run_at(const struct lazy_space *s, const struct lazy_span *p, uint64_t offset, uint64_t max,
		   struct lazy_span *ret)
{
	bool is_undone;
	uint64_t len = CPX_PAGE_SIZE * lazy_bits_run(bits_of(s, p), page_of(p->from + offset),
						     page_of(p->from + p->len), &is_undone);

	*ret = (struct lazy_span){p->addr + offset, is_undone ? MIN(len, max) : 0, p->chunk,
				  p->from + (uint32_t)offset};
}

void lazy_find(const struct lazy_space *s, uint64_t addr, uint64_t max, struct lazy_span *ret)
{
	size_t i = span_at(s->table, addr);

	*ret = (struct lazy_span){0};
	if (i < s->table->n && s->table->span[i].addr <= addr)
		run_at(s, &s->table->span[i], addr - s->table->span[i].addr, max, ret);
}

bool lazy_next(struct lazy_space *s, uint64_t max, struct lazy_span *ret)
{
	for (; s->cursor < s->table->n; s->cursor++) {
		const struct lazy_span *p = &s->table->span[s->cursor];

		bool is_undone;
		uint64_t done = CPX_PAGE_SIZE * lazy_bits_run(bits_of(s, p), page_of(p->from),
							      page_of(p->from + p->len), &is_undone);

		done = is_undone ? 0 : done;
		if (done < p->len) {
			run_at(s, p, done, max, ret);
			return true;
		}
	}
	return false;
}

void lazy_done(struct lazy_space *s, const struct lazy_span *run, uint64_t len)
{
	len = MIN(len, run->len);
	if (len)
		s->left -= lazy_bits_clear(bits_of(s, run), page_of(run->from),
					   page_of(run->from + len));
}

/* ---- what the tree did -------------------------------------------------------------------------- */

/* [start, end) within a span. */
static struct lazy_span cut(const struct lazy_span *p, uint64_t start, uint64_t end)
{
	uint64_t from = MAX(p->addr, start), to = MIN(p->addr + p->len, end);

	if (from >= to)
		return (struct lazy_span){0};
	return (struct lazy_span){from, to - from, p->chunk, p->from + (uint32_t)(from - p->addr)};
}

void lazy_drop(struct lazy_space *s, uint64_t start, uint64_t end)
{
	const struct lazy_table *t = s->table;

	for (size_t i = span_at(t, start); i < t->n && t->span[i].addr < end; i++) {
		struct lazy_span p = cut(&t->span[i], start, end);

		lazy_done(s, &p, p.len);
	}
}

static void append(struct lazy_table *t, struct lazy_span p)
{
	if (p.len)
		t->span[t->n++] = p;
}

static int by_addr(const void *a, const void *b)
{
	const struct lazy_span *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* What is at from goes to to; what was at to has gone. */
static void move_spans(struct lazy_table *t, const struct lazy_table *old, uint64_t from, uint64_t to,
		       uint64_t len)
{
	uint64_t first = MIN(from, to), second = MAX(from, to);

	for (size_t i = 0; i < old->n; i++) {
		const struct lazy_span *p = &old->span[i];
		struct lazy_span moved = cut(p, from, from + len);

		append(t, cut(p, 0, first));
		append(t, cut(p, first + len, second));
		append(t, cut(p, second + len, UINT64_MAX));
		moved.addr += to - from;
		append(t, moved);
	}
	qsort(t->span, t->n, sizeof(*t->span), by_addr);
}

/* Pieces of both ranges are cut out of at most three spans more than there are. */
static size_t moved_spans_max(const struct lazy_table *old)
{
	return old->n + 4;
}

int lazy_move(struct lazy_state *st, struct lazy_space *s, uint64_t from, uint64_t to, uint64_t len,
	      struct err *err)
{
	struct lazy_table *old = s->table, *t;

	lazy_drop(s, to, to + len);
	t = new_table(st, moved_spans_max(old), err);
	if (!t)
		return -ENOMEM;
	move_spans(t, old, from, to, len);
	s->cursor = 0;
	__atomic_store_n(&s->table, t, __ATOMIC_RELEASE);
	give_back(old, table_size(old->n));
	return 0;
}

int lazy_fork(struct lazy_state *st, const struct lazy_space *parent, int uffd,
	      struct lazy_space **ret, struct err *err)
{
	struct lazy_space *to, s;
	int r = start_space(st, parent->table->n, parent->nchunks, &to, &s, err);

	if (r < 0)
		return r;
	s.uffd = uffd;
	s.mm = parent->mm;
	s.first = parent->first;
	s.left = parent->left;
	s.table->n = parent->table->n;
	memcpy(s.table->span, parent->table->span, parent->table->n * sizeof(struct lazy_span));
	memcpy(s.undone, parent->undone, parent->nchunks * sizeof(*s.undone));
	publish(to, &s, LAZY_LIVE);
	*ret = to;
	return 0;
}
