/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Extents gathered into chunks of the format's limits. Does no system call. */
#include "mem/pages.h"

static struct page_chunk *open_chunk(struct page_chunks *c)
{
	struct page_chunk *last = c->n ? &c->chunk[c->n - 1] : NULL;

	if (last && last->bytes < CHUNK_MAX && last->n < EXTENTS_MAX)
		return last;
	if (grow(&c->chunk, &c->max, c->n, sizeof(*c->chunk)) < 0)
		return NULL;
	c->chunk[c->n] = (struct page_chunk){.first = c->next};
	return &c->chunk[c->n++];
}

static bool can_extend(const struct page_chunks *c, const struct page_chunk *chunk, uint64_t addr)
{
	const struct extent *e = chunk->n ? &c->ext[c->next - 1] : NULL;

	return e && e->addr + e->len == addr;
}

static int add_piece(struct page_chunks *c, uint64_t addr, uint64_t *len)
{
	struct page_chunk *chunk = open_chunk(c);

	if (!chunk)
		return -ENOMEM;
	*len = MIN(*len, CHUNK_MAX - chunk->bytes);
	if (can_extend(c, chunk, addr)) {
		c->ext[c->next - 1].len += *len;
	} else {
		if (grow(&c->ext, &c->max_ext, c->next, sizeof(*c->ext)) < 0)
			return -ENOMEM;
		c->ext[c->next++] = (struct extent){addr, *len};
		chunk->n++;
	}
	chunk->bytes += (uint32_t)*len;
	return 0;
}

int page_chunks_add(struct page_chunks *c, uint64_t addr, uint64_t len)
{
	while (len) {
		uint64_t piece = len;
		int r = add_piece(c, addr, &piece);

		if (r < 0)
			return r;
		addr += piece;
		len -= piece;
	}
	return 0;
}

void page_chunks_clear(struct page_chunks *c)
{
	c->next = 0;
	c->n = 0;
}

void page_chunks_release(struct page_chunks *c)
{
	free(c->ext);
	free(c->chunk);
	*c = (struct page_chunks){0};
}

const Cpx__Vma *vma_at(const Cpx__Mm *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->n_vma;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (mm->vma[mid]->end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mm->n_vma && mm->vma[lo]->start <= addr ? mm->vma[lo] : NULL;
}

int page_notes_flush(struct page_notes *l, struct pageout *p, uint32_t mm, struct err *err)
{
	unsigned n = l->n;

	l->n = 0;
	return n ? image_write_chunk(p->w, mm, l->kind, l->ext, n, NULL, err) : 0;
}

int page_notes_add(struct page_notes *l, struct pageout *p, uint32_t mm, uint64_t addr,
		   uint64_t len, struct err *err)
{
	int r = 0;

	if (l->n && l->ext[l->n - 1].addr + l->ext[l->n - 1].len == addr) {
		l->ext[l->n - 1].len += len;
		return 0;
	}
	if (l->n == EXTENTS_MAX)
		r = page_notes_flush(l, p, mm, err);
	if (r == 0)
		l->ext[l->n++] = (struct extent){addr, len};
	return r;
}
