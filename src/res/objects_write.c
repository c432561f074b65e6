/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared content on its way into the image: the copies that objects.c took aside become chunks, when the tree
 * runs again. Of a delta, pages that the parent image holds are only named: they are compared with it byte by
 * byte, so nothing depends on a match of objects being right but the size of the delta.
 */
#include "res/objects.h"

#include <sys/mman.h>

struct pending_chunk {
	enum chunk_kind kind;
	struct extent ext[EXTENTS_MAX];
	unsigned n;
	uint8_t *data; /* CHUNK_MAX; NULL for a kind without bytes */
	size_t used;
};

struct object_output {
	struct image_writer *w;
	uint32_t object;
	struct image_lookup *before; /* the same object in the parent image; NULL: there is none */
	struct pending_chunk changed, unchanged;
	struct object_stats stats;
};

/* ---- the same object in the parent image ---- */

static bool is_alike(const Cpx__Object *a, const Cpx__Object *b)
{
	return a->type == b->type && a->hugepage_shift == b->hugepage_shift &&
	       a->name.len == b->name.len &&
	       (!a->name.len || memcmp(a->name.data, b->name.data, a->name.len) == 0);
}

/* By its inode; of a tree that was restored since, by its place among the objects. */
static uint32_t match(const struct image *parent, const Cpx__Object *o)
{
	uint32_t by_place = 0;

	for (size_t i = 0; i < parent->nobjects; i++) {
		const Cpx__Object *p = parent->object[i];

		if (!is_alike(o, p))
			continue;
		if (o->ino && p->ino == o->ino)
			return p->id;
		if (p->id == o->id)
			by_place = p->id;
	}
	return by_place;
}

void objects_match(struct dump_ctx *c, const struct image *parent)
{
	for (size_t i = 0; i < objects_count(c); i++) {
		Cpx__Object *o = objects_get(c, i);

		o->before_object = match(parent, o);
	}
}

/* ---- writing ---- */

static int flush(struct object_output *o, struct pending_chunk *p, struct err *err)
{
	int r = p->n ? image_write_chunk(o->w, o->object, p->kind, p->ext, p->n, p->data, err) : 0;

	p->n = 0;
	p->used = 0;
	return r;
}

static void add_extent(struct pending_chunk *p, uint64_t addr, uint64_t len)
{
	struct extent *last = p->n ? &p->ext[p->n - 1] : NULL;

	if (last && last->addr + last->len == addr)
		last->len += len;
	else
		p->ext[p->n++] = (struct extent){addr, len};
}

static bool is_full(const struct pending_chunk *p)
{
	return p->n == EXTENTS_MAX || p->used == CHUNK_MAX;
}

static int add(struct object_output *o, struct pending_chunk *p, uint64_t addr, const uint8_t *from,
	       uint64_t len, struct err *err)
{
	int r = 0;

	while (len && r == 0) {
		size_t piece = p->data ? MIN(len, CHUNK_MAX - p->used) : len;

		if (p->data) {
			memcpy(p->data + p->used, from, piece);
			p->used += piece;
		}
		add_extent(p, addr, piece);
		*(p->data ? &o->stats.pages : &o->stats.unchanged_pages) += piece / CPX_PAGE_SIZE;
		addr += piece;
		from += piece;
		len -= piece;
		if (is_full(p))
			r = flush(o, p, err);
	}
	return r;
}

static int sort_pages(struct object_output *o, uint64_t addr, const uint8_t *from, size_t len,
		      struct err *err)
{
	int r = 0;

	for (size_t at = 0; at < len && r >= 0; at += CPX_PAGE_SIZE) {
		r = image_lookup_compare(o->before, addr + at, from + at, err);
		if (r >= 0)
			r = add(o, r ? &o->unchanged : &o->changed, addr + at, from + at,
				CPX_PAGE_SIZE, err);
	}
	return r < 0 ? err_context(err, "the parent image") : 0;
}

/* [start, start + len) of the copy is populated. */
static int write_piece(struct object_output *o, int copy, uint64_t start, size_t len,
		       struct err *err)
{
	uint8_t *from = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_POPULATE, copy, (off_t)start);
	int r;

	if (from == MAP_FAILED)
		return err_sys(err, -errno, "cannot read the copy of shared memory");
	r = o->before ? sort_pages(o, start, from, len, err)
		      : add(o, &o->changed, start, from, len, err);
	munmap(from, len);
	return r;
}

static int write_copy(struct object_output *o, int copy, struct err *err)
{
	off_t data = 0;
	int r = 0;

	while (r == 0 && (data = lseek(copy, data, SEEK_DATA)) >= 0) {
		off_t hole = lseek(copy, data, SEEK_HOLE);

		for (; r == 0 && data < hole; data += MIN(hole - data, (off_t)CHUNK_MAX))
			r = write_piece(o, copy, data, MIN((size_t)(hole - data), CHUNK_MAX), err);
	}
	return r;
}

static int write_object(struct object_output *o, struct object_entry *e, const struct image *parent,
			struct err *err)
{
	int r = 0;

	o->object = e->object->id;
	if (e->object->before_object)
		r = image_lookup_new(parent, e->object->before_object, &o->before, err);
	if (r == 0)
		r = write_copy(o, e->copy, err);
	if (r == 0)
		r = flush(o, &o->changed, err);
	if (r == 0)
		r = flush(o, &o->unchanged, err);
	image_lookup_free(TAKE_PTR(o->before));
	close(TAKE_FD(e->copy));
	return r;
}

int objects_write(struct dump_ctx *c, struct image_writer *w, const struct image *parent,
		  struct object_stats *ret, struct err *err)
{
	_cleanup_free_ struct object_output *o = calloc(1, sizeof(*o));
	_cleanup_free_ uint8_t *data = NULL;
	int r = 0;

	*ret = (struct object_stats){0};
	if (!objects_count(c))
		return 0;
	data = malloc(CHUNK_MAX);
	if (!o || !data)
		return err_nomem(err);
	*o = (struct object_output){.w = w, .changed = {CHUNK_DATA, .data = data}};
	o->unchanged.kind = CHUNK_BEFORE;
	for (size_t i = 0; r == 0 && i < c->objects->n; i++)
		if (c->objects->entry[i].copy >= 0)
			r = write_object(o, &c->objects->entry[i], parent, err);
	*ret = o->stats;
	return r;
}
