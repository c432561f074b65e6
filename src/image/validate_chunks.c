/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks against the records: to whom they belong, that their pages can be there, and that no page
 * comes twice. Early chunks have no records yet; what refers to them is judged in layers.c. */
#include "image/reader.h"
#include "base/util.h"

static bool is_inside_mm(const Cpx__Mm *mm, const struct chunk_ref *c)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!mm_covers(mm, c->piece[i].addr, c->piece[i].addr + c->piece[i].len, true))
			return false;
	return true;
}

static int check_mm_chunk(const struct image *im, const Cpx__Mm *mm, const struct chunk_ref *c,
			  struct err *err)
{
	if (!is_inside_mm(mm, c))
		return image_bad(err, "Mm", mm->id, "has pages outside its private mappings");
	if (c->kind == CHUNK_BEFORE && !mm->before_mm && !mm->early)
		return image_bad(err, "Mm", mm->id, "has pages as before, but nothing was before");
	if (c->kind == CHUNK_INHERIT) {
		const Cpx__Mm *parent = image_mm(im, mm->parent_mm);

		if (!parent || !is_inside_mm(parent, c))
			return image_bad(err, "Mm", mm->id, "inherits pages that its parent lacks");
	}
	return 0;
}

static int check_object_chunk(const Cpx__Object *o, const struct chunk_ref *c, struct err *err)
{
	const struct piece *last = &c->piece[c->n - 1];
	uint64_t size = ALIGN_UP(o->size, (uint64_t)CPX_PAGE_SIZE);

	if (c->kind != CHUNK_DATA && c->kind != CHUNK_BEFORE)
		return image_bad(err, "Object", o->id, "has a chunk of a kind that only memory has");
	if (c->kind == CHUNK_BEFORE && !o->before_object && !o->early)
		return image_bad(err, "Object", o->id, "has content as before, but nothing was before");
	if (last->addr + last->len > size) /* they ascend */
		return image_bad(err, "Object", o->id, "has content beyond its end");
	return 0;
}

int validate_chunk(const struct image *im, const struct chunk_ref *c, size_t *last_rank,
		   struct err *err)
{
	const struct id_entry *mm = id_map_find(&im->private->map[MAP_MMS], c->object);
	const struct id_entry *object = id_map_find(&im->private->map[MAP_OBJECTS], c->object);
	size_t rank;

	if (!mm && !object)
		return image_bad(err, "a chunk of", c->object, "belongs to nothing");
	rank = mm ? im->nobjects + mm->rank : object->rank;
	if (rank < *last_rank)
		return image_bad(err, "a chunk of", c->object, "is out of order");
	*last_rank = rank;
	return mm ? check_mm_chunk(im, mm->msg, c, err) : check_object_chunk(object->msg, c, err);
}

static int compare_extents(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static bool has_overlap(struct extent *e, size_t n)
{
	bool is_sorted = true;

	for (size_t i = 1; i < n && is_sorted; i++)
		is_sorted = e[i].addr >= e[i - 1].addr;
	if (!is_sorted)
		qsort(e, n, sizeof(*e), compare_extents);
	for (size_t i = 1; i < n; i++)
		if (e[i].addr - e[i - 1].addr < e[i - 1].len)
			return true;
	return false;
}

int seen_pages_finish(struct seen_pages *p, struct err *err)
{
	bool is_bad = has_overlap(p->ext, p->n);

	p->n = 0;
	return is_bad ? image_bad(err, "memory of", p->object, "has a page that is there twice") : 0;
}

int seen_pages_add(struct seen_pages *p, const struct chunk_ref *c, struct err *err)
{
	int r = c->object == p->object ? 0 : seen_pages_finish(p, err);

	if (r < 0)
		return r;
	if (grow(&p->ext, &p->max, p->n + c->n, sizeof(*p->ext)) < 0)
		return err_nomem(err);
	for (unsigned i = 0; i < c->n; i++)
		p->ext[p->n++] = (struct extent){c->piece[i].addr, c->piece[i].len};
	p->object = c->object;
	return 0;
}

static int check_chunks(const struct image *im, struct seen_pages *seen, struct err *err)
{
	size_t rank = 0;
	int r = 0;

	for (size_t i = im->nearly; i < im->nstored && r == 0; i++) {
		r = validate_chunk(im, &im->stored[i], &rank, err);
		if (r == 0)
			r = seen_pages_add(seen, &im->stored[i], err);
	}
	return r < 0 ? r : seen_pages_finish(seen, err);
}

int validate_chunks(const struct image *im, struct err *err)
{
	struct seen_pages seen = {0};
	int r = check_chunks(im, &seen, err);

	free(seen.ext);
	return r;
}
