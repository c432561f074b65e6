/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chunks in memory to the image: each slot of the pool's ring takes the bytes of a group (the twin
 * writes there, or cpx itself), workers compress out of it, the calling thread puts the results
 * into the image in order. A slot is free again when all its chunks are out.
 */
#include "mem/pages.h"

static int start_hashes(struct page_sink *s, bool has_children, struct err *err)
{
	if (has_children && page_hashes_start(&s->p->hashes, s->mm->id, &s->own) < 0)
		return err_nomem(err);
	s->parent = page_hashes_find(s->p->hashes, s->mm->parent_mm);
	if (s->p->before && s->mm->before_mm && !s->mm->early)
		return image_lookup_new(s->p->before, s->mm->before_mm, &s->lookup, err);
	return 0;
}

int page_sink_open(struct page_sink *s, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		   struct err *err)
{
	int r = 0;

	*s = (struct page_sink){
		.p = p,
		.mm = mm,
		.inherit = {.kind = CHUNK_INHERIT},
		.before = {.kind = CHUNK_BEFORE},
		.zero = {.kind = CHUNK_ZERO},
	};
	if (!p->pool)
		r = page_pool_new(p, &p->pool, err);
	return r < 0 ? r : start_hashes(s, has_children, err);
}

/* After a failure there are jobs left; the next sink must not get them. */
void page_sink_close(struct page_sink *s)
{
	struct page_job *j;

	while ((j = page_pool_take(s->p->pool)))
		page_job_free(j);
	image_lookup_free(s->lookup);
	free(s->pack.data);
}

/* ---- results into the image ---- */

static int keep_hashes(struct page_sink *s, const struct page_job *j)
{
	int r = 0;

	for (unsigned i = 0; i < j->nhashes && r == 0; i++)
		r = page_hash_add(s->own, j->hash[i].addr, j->hash[i].hash);
	return r;
}

static int note_inherited(struct page_sink *s, const struct page_job *j, struct err *err)
{
	const struct extent *e = j->inherited.ext;
	int r = 0;

	for (size_t i = 0; i < j->inherited.next && r == 0; i++) {
		r = page_notes_add(&s->inherit, s->p, s->mm->id, e[i].addr, e[i].len, err);
		s->p->stats.inherited_pages += e[i].len / CPX_PAGE_SIZE;
	}
	return r;
}

static int note_before(struct page_sink *s, const struct page_job *j, struct err *err)
{
	const struct extent *e = j->before.ext;
	int r = 0;

	for (size_t i = 0; i < j->before.next && r == 0; i++) {
		r = page_notes_add(&s->before, s->p, s->mm->id, e[i].addr, e[i].len, err);
		s->p->stats.unchanged_pages += e[i].len / CPX_PAGE_SIZE;
	}
	return r;
}

/* An extent may reach over several mappings. */
static int note_zero_extent(struct page_sink *s, struct extent e, struct err *err)
{
	int r = 0;

	while (e.len && r == 0) {
		const Cpx__Vma *v = vma_at(s->mm, e.addr);
		uint64_t len = v ? MIN(e.len, v->end - e.addr) : e.len;

		if (v && v->kind == CPX__VMA__KIND__FILE_PRIVATE)
			r = page_notes_add(&s->zero, s->p, s->mm->id, e.addr, len, err);
		e.addr += len;
		e.len -= len;
	}
	return r;
}

static int note_zero(struct page_sink *s, const struct page_job *j, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < j->zero.next && r == 0; i++) {
		s->p->stats.zero_pages += j->zero.ext[i].len / CPX_PAGE_SIZE;
		r = note_zero_extent(s, j->zero.ext[i], err);
	}
	return r;
}

static int note_extents(struct page_known *k, const struct extent *e, size_t n,
			enum page_state state)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = page_known_set(k, e[i].addr, e[i].len, state);
	return r;
}

static int note_states(struct page_known *k, const struct page_job *j)
{
	int r = k ? note_extents(k, j->stored, j->nstored, PAGE_STORED) : 0;

	return r < 0 || !k ? r : note_extents(k, j->zero.ext, j->zero.next, PAGE_ZERO);
}

/* ---- packing ---- */

static int flush_pack(struct page_sink *s, struct err *err)
{
	struct page_pack *p = &s->pack;
	unsigned n = p->n;

	p->n = 0;
	p->bytes = 0;
	return n ? image_write_chunk(s->p->w, s->mm->id, CHUNK_DATA, p->ext, n, p->data, err) : 0;
}

static bool has_room(const struct page_pack *p, const struct page_job *j)
{
	const struct extent *last = p->n ? &p->ext[p->n - 1] : NULL;

	return p->n + j->nstored <= EXTENTS_MAX && p->bytes + j->stored_bytes <= CHUNK_MAX &&
	       (!last || last->addr + last->len <= j->stored[0].addr);
}

static int pack_job(struct page_sink *s, const struct page_job *j, struct err *err)
{
	struct page_pack *p = &s->pack;
	int r = has_room(p, j) ? 0 : flush_pack(s, err);

	if (!p->data)
		p->data = malloc(CHUNK_MAX);
	if (!p->data)
		return err_nomem(err);
	memcpy(p->data + p->bytes, j->data, j->stored_bytes);
	memcpy(p->ext + p->n, j->stored, j->nstored * sizeof(*p->ext));
	p->bytes += j->stored_bytes;
	p->n += j->nstored;
	return r;
}

static int put_job(struct page_sink *s, struct page_job *j, struct err *err)
{
	struct pageout_stats *st = &s->p->stats;
	int r;

	if (j->ret < 0) {
		*err = j->err;
		return j->ret;
	}
	if ((s->own && keep_hashes(s, j) < 0) || note_states(s->p->known, j) < 0)
		return err_nomem(err);
	r = note_inherited(s, j, err);
	if (r == 0)
		r = note_before(s, j, err);
	if (r == 0)
		r = note_zero(s, j, err);
	if (r == 0 && j->nstored && !j->prepared)
		r = pack_job(s, j, err);
	else if (r == 0 && j->prepared)
		r = image_write_prepared(s->p->w, TAKE_PTR(j->prepared), err);
	st->pages += j->stored_bytes / CPX_PAGE_SIZE;
	st->bytes += j->stored_bytes;
	return r;
}

static int put_oldest(struct page_sink *s, struct err *err)
{
	struct page_job *j = page_pool_take(s->p->pool);
	int r;

	if (!j)
		return 0;
	s->pending[j->slot]--;
	r = put_job(s, j, err);
	page_job_free(j);
	return r;
}

/* ---- chunks in ---- */

int page_sink_slot(struct page_sink *s, unsigned *ret_slot, struct err *err)
{
	int r = 0;

	while (r == 0 && (s->pending[s->slot] || page_pool_has_result(s->p->pool)))
		r = put_oldest(s, err);
	if (r < 0)
		return r;
	*ret_slot = s->slot;
	s->slot = (s->slot + 1) % SINK_SLOTS;
	return 0;
}

uint8_t *page_sink_data(const struct page_sink *s, unsigned slot)
{
	return page_pool_ring(s->p->pool) + slot * SINK_GROUP;
}

static int add_job(struct page_sink *s, unsigned slot, const struct page_chunks *c,
		   const struct page_chunk *chunk, uint8_t *data)
{
	struct page_job *j = calloc(1, sizeof(*j));

	if (j)
		j->all = malloc(chunk->n * sizeof(*j->all));
	if (!j || !j->all) {
		page_job_free(j);
		return -ENOMEM;
	}
	memcpy(j->all, c->ext + chunk->first, chunk->n * sizeof(*j->all));
	j->mm = s->mm->id;
	j->chunk = *chunk;
	j->data = data;
	j->parent = s->parent;
	j->lookup = s->lookup;
	j->want_hashes = s->own;
	j->slot = slot;
	s->pending[slot]++;
	page_pool_add(s->p->pool, j);
	return 0;
}

int page_sink_put(struct page_sink *s, unsigned slot, const struct page_chunks *c, struct err *err)
{
	uint8_t *data = page_sink_data(s, slot);

	for (size_t i = 0; i < c->n; i++) {
		if (add_job(s, slot, c, &c->chunk[i], data) < 0)
			return err_nomem(err);
		data += c->chunk[i].bytes;
	}
	return 0;
}

int page_sink_finish(struct page_sink *s, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < SINK_SLOTS; i++)
		while (s->pending[i] && r == 0)
			r = put_oldest(s, err);
	if (r == 0)
		r = flush_pack(s, err);
	if (r == 0)
		r = page_notes_flush(&s->inherit, s->p, s->mm->id, err);
	if (r == 0)
		r = page_notes_flush(&s->before, s->p, s->mm->id, err);
	return r < 0 ? r : page_notes_flush(&s->zero, s->p, s->mm->id, err);
}
