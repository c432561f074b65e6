/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which memory of an image may be filled when the tree runs already. No system call.
 *
 * Filled before, because userfaultfd(2) cannot wait for it or others look at it: mappings of files,
 * locked and huge pages (hugetlb), what a child is to share copy-on-write (it must be there when the child is
 * forked), arguments and environment (/proc/PID/cmdline does not wait), what the kernel writes to
 * when a thread exits (it does not wait then: fs/userfaultfd.c, handle_userfault, PF_EXITING), and
 * what a child does not inherit (WIPEONFORK).
 */
#include "mem/lazy.h"

#include "arch/arch.h"
#include "base/util.h"
#include "mem/mem.h"
#include "mem/pages.h"

#define NEVER_LATER (VMA_LOCKED | VMA_LOCKONFAULT | VMA_WIPEONFORK | VMA_DROPPABLE)

static unsigned page_of(uint64_t from)
{
	return (unsigned)(from / CPX_PAGE_SIZE);
}

void lazy_choice_release(struct lazy_choice *c)
{
	free(c->page);
	free(c->rest);
	free(c->pieces);
	*c = (struct lazy_choice){0};
}

/* The length of the run of pages that begins at offset at of a piece, and what becomes of it. */
static uint64_t run_at(const struct lazy_choice *c, size_t chunk, const struct piece *p, uint64_t at,
		       bool *ret_later)
{
	return CPX_PAGE_SIZE * lazy_bits_run(c->page[chunk], page_of(p->from + at),
					     page_of(p->from + p->len), ret_later);
}

/* ---- mappings --------------------------------------------------------------------------------- */

static bool may_wait(const Cpx__Vma *v)
{
	return v && v->kind == CPX__VMA__KIND__ANON && !(v->vm_flags & NEVER_LATER);
}

static bool is_sound(const struct piece *p)
{
	return !((p->addr | p->len | p->from) % CPX_PAGE_SIZE) && p->from < CHUNK_MAX &&
	       p->len <= CHUNK_MAX - p->from;
}

static int choose_piece(struct lazy_choice *c, size_t chunk, const Cpx__Mm *mm, const struct piece *p)
{
	uint64_t at = 0;

	while (at < p->len) {
		const Cpx__Vma *v = vma_at(mm, p->addr + at);
		uint64_t end = v ? MIN(v->end - p->addr, p->len) : p->len;

		if (may_wait(v)) {
			unsigned first = page_of(p->from + at), last = page_of(p->from + end);

			if (lazy_bits_any(c->page[chunk], first, last))
				return -EEXIST; /* one page of the chunk at two places */
			lazy_bits_set(c->page[chunk], first, last);
		}
		at = end;
	}
	return 0;
}

static void choose_chunk(struct lazy_choice *c, const struct image *im, size_t chunk)
{
	const struct chunk_ref *k = &im->chunk[chunk];
	const Cpx__Mm *mm = k->kind == CHUNK_DATA ? image_mm(im, k->object) : NULL;
	int r = 0;

	for (unsigned i = 0; mm && i < k->n && r == 0; i++)
		r = is_sound(&k->piece[i]) ? choose_piece(c, chunk, mm, &k->piece[i]) : -EBADMSG;
	if (r < 0)
		memset(c->page[chunk], 0, sizeof(c->page[chunk]));
}

/* ---- spans ------------------------------------------------------------------------------------ */

static int by_addr(const void *a, const void *b)
{
	const struct lazy_span *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void sort(struct lazy_spans *l)
{
	for (size_t i = 1; i < l->n; i++)
		if (l->span[i].addr < l->span[i - 1].addr) {
			qsort(l->span, l->n, sizeof(*l->span), by_addr);
			return;
		}
}

static int add_span(struct lazy_spans *l, uint32_t chunk, const struct piece *p, uint64_t at,
		    uint64_t len)
{
	if (grow(&l->span, &l->max, l->n, sizeof(*l->span)) < 0)
		return -ENOMEM;
	l->span[l->n++] = (struct lazy_span){p->addr + at, len, chunk, p->from + (uint32_t)at};
	return 0;
}

/* Cut where mappings end: one call of userfaultfd does not reach over two. */
static int add_piece(struct lazy_spans *l, const struct lazy_choice *c, const Cpx__Mm *mm,
		     uint32_t chunk, const struct piece *p)
{
	uint64_t at = 0;
	int r = 0;

	while (at < p->len && r == 0) {
		const Cpx__Vma *v = vma_at(mm, p->addr + at);
		bool is_chosen;
		uint64_t len = run_at(c, chunk, p, at, &is_chosen);

		len = v ? MIN(len, v->end - (p->addr + at)) : len;
		if (is_chosen)
			r = add_span(l, chunk, p, at, len);
		at += len;
	}
	return r;
}

static bool has_any(const struct lazy_choice *c, size_t chunk)
{
	uint64_t any = 0;

	for (size_t w = 0; w < LAZY_WORDS; w++)
		any |= c->page[chunk][w];
	return any;
}

int lazy_collect(const struct image *im, const struct lazy_choice *c, uint32_t mm_id,
		 struct lazy_spans *ret, struct err *err)
{
	const Cpx__Mm *mm = image_mm(im, mm_id);
	int r = 0;

	for (size_t i = 0; i < im->nchunks && r == 0; i++) {
		const struct chunk_ref *k = &im->chunk[i];

		if (k->object != mm_id || !has_any(c, i))
			continue;
		for (unsigned p = 0; p < k->n && r == 0; p++)
			r = add_piece(ret, c, mm, (uint32_t)i, &k->piece[p]);
	}
	if (r < 0)
		return err_nomem(err);
	sort(ret);
	return 0;
}

/* ---- exceptions --------------------------------------------------------------------------------- */

static void not_later(struct lazy_choice *c, const struct lazy_spans *l, uint64_t start, uint64_t end)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->span[mid].addr + l->span[mid].len <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < l->n && l->span[lo].addr < end; lo++) {
		const struct lazy_span *p = &l->span[lo];
		uint64_t from = MAX(start, p->addr) - p->addr, to = MIN(end - p->addr, p->len);

		lazy_bits_clear(c->page[p->chunk], page_of(p->from + from),
				page_of(p->from + to + CPX_PAGE_SIZE - 1));
	}
}

static void at_once(struct lazy_choice *c, const struct lazy_spans *l, uint64_t addr)
{
	if (addr)
		not_later(c, l, addr, addr + CPX_PAGE_SIZE);
}

static void thread_at_once(struct lazy_choice *c, const struct lazy_spans *l, const Cpx__Thread *th)
{
	struct arch_regs regs;

	if (th->memory) {
		at_once(c, l, th->memory->robust_list);
		at_once(c, l, th->memory->clear_child_tid);
		at_once(c, l, th->memory->rseq);
	}
	if (th->gp_regs.len != sizeof(regs.gp))
		return;
	memcpy(&regs.gp, th->gp_regs.data, sizeof(regs.gp));
	at_once(c, l, arch_stack_pointer(&regs)); /* needed first in any case */
}

static void shared_at_once(struct lazy_choice *c, const struct lazy_spans *l, const struct image *im,
			   uint32_t mm)
{
	for (size_t i = 0; i < im->nchunks; i++) {
		const struct chunk_ref *k = &im->chunk[i];
		const Cpx__Mm *child = k->kind == CHUNK_INHERIT ? image_mm(im, k->object) : NULL;

		if (!child || child->parent_mm != mm)
			continue;
		for (unsigned p = 0; p < k->n; p++)
			not_later(c, l, k->piece[p].addr, k->piece[p].addr + k->piece[p].len);
	}
}

static int except(struct lazy_choice *c, const struct image *im, const Cpx__Mm *mm, struct err *err)
{
	struct lazy_spans l = {0};
	int r = lazy_collect(im, c, mm->id, &l, err);

	if (r == 0 && l.n) {
		if (mm->arg_start < mm->env_end)
			not_later(c, &l, mm->arg_start, mm->env_end);
		for (size_t i = 0; i < im->ntasks; i++)
			for (size_t k = 0; im->task[i]->mm == mm->id && k < im->task[i]->n_thread; k++)
				thread_at_once(c, &l, im->task[i]->thread[k]);
		shared_at_once(c, &l, im, mm->id);
	}
	free(l.span);
	return r;
}

/* ---- the rest ------------------------------------------------------------------------------------ */

static void rest_of_piece(struct lazy_choice *c, size_t chunk, const struct piece *p,
			  struct chunk_ref *rest)
{
	uint64_t at = 0;

	while (at < p->len) {
		bool is_chosen;
		uint64_t len = run_at(c, chunk, p, at, &is_chosen);

		if (is_chosen)
			c->bytes += len;
		else
			rest->piece[rest->n++] =
				(struct piece){p->addr + at, len, p->from + (uint32_t)at};
		at += len;
	}
}

static size_t count_pieces(const struct lazy_choice *c, size_t chunk, const struct chunk_ref *k)
{
	size_t n = 0;
	bool is_chosen;

	for (unsigned i = 0; i < k->n; i++)
		for (uint64_t at = 0; at < k->piece[i].len; n++)
			at += run_at(c, chunk, &k->piece[i], at, &is_chosen);
	return n;
}

static int make_rest(struct lazy_choice *c, const struct image *im)
{
	size_t n = 0, used = 0;

	for (size_t i = 0; i < im->nchunks; i++)
		n += has_any(c, i) ? count_pieces(c, i, &im->chunk[i]) : 0;
	c->rest = calloc(im->nchunks + 1, sizeof(*c->rest));
	c->pieces = calloc(n + 1, sizeof(*c->pieces));
	if (!c->rest || !c->pieces)
		return -ENOMEM;
	for (size_t i = 0; i < im->nchunks; i++) {
		c->rest[i] = im->chunk[i];
		if (!has_any(c, i))
			continue;
		c->rest[i].piece = c->pieces + used;
		c->rest[i].n = 0;
		for (unsigned p = 0; p < im->chunk[i].n; p++)
			rest_of_piece(c, i, &im->chunk[i].piece[p], &c->rest[i]);
		used += c->rest[i].n;
	}
	return 0;
}

int lazy_choose(const struct image *im, struct lazy_choice *ret, struct err *err)
{
	struct lazy_choice c = {.page = calloc(im->nchunks + 1, sizeof(*c.page))};
	int r = 0;

	if (!c.page)
		return err_nomem(err);
	for (size_t i = 0; i < im->nchunks; i++)
		choose_chunk(&c, im, i);
	for (size_t i = 0; i < im->nmms && r == 0; i++)
		r = except(&c, im, im->mm[i], err);
	if (r == 0 && make_rest(&c, im) < 0)
		r = err_nomem(err);
	if (r < 0)
		lazy_choice_release(&c);
	else
		*ret = c;
	return r;
}
