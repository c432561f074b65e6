/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The chunks of one image by owner and address. Pure code on a list of chunks that is valid. */
#include "image/layers.h"
#include "base/util.h"

struct layer_owner {
	uint32_t id;
	size_t first, end; /* chunks: those of an owner come together */
	struct spans spans;
	bool is_known;
};

struct layer_early {
	uint32_t id;
	size_t chunk;
};

int spans_add(struct spans *l, const struct span *s)
{
	if (grow(&l->s, &l->max, l->n, sizeof(*l->s)) < 0)
		return -ENOMEM;
	l->s[l->n++] = *s;
	return 0;
}

static int by_addr(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

void spans_sort(struct spans *l)
{
	for (size_t i = 1; i < l->n; i++)
		if (l->s[i].addr < l->s[i - 1].addr) {
			qsort(l->s, l->n, sizeof(*l->s), by_addr);
			return;
		}
}

static int add_chunk(struct spans *l, const struct chunk_ref *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		const struct piece *p = &c->piece[i];

		if (spans_add(l, &(struct span){p->addr, p->len, c, p->from, 0}) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- the index of a layer ---- */

static int by_id(const void *a, const void *b)
{
	const struct layer_owner *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id_and_place(const void *a, const void *b)
{
	const struct layer_early *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static int find_owners(struct layer *l)
{
	size_t max = 0;

	for (size_t i = l->im->nearly; i < l->im->nstored; i++) {
		uint32_t id = l->im->stored[i].object;

		if (l->nowners && l->owner[l->nowners - 1].id == id) {
			l->owner[l->nowners - 1].end = i + 1;
			continue;
		}
		if (grow(&l->owner, &max, l->nowners, sizeof(*l->owner)) < 0)
			return -ENOMEM;
		l->owner[l->nowners++] = (struct layer_owner){.id = id, .first = i, .end = i + 1};
	}
	if (l->nowners)
		qsort(l->owner, l->nowners, sizeof(*l->owner), by_id);
	return 0;
}

int layer_init(struct layer *l, const struct image *im, struct err *err)
{
	*l = (struct layer){.im = im, .early = malloc((im->nearly + 1) * sizeof(*l->early))};
	if (!l->early || find_owners(l) < 0)
		return err_nomem(err);
	for (size_t i = 0; i < im->nearly; i++)
		l->early[i] = (struct layer_early){im->stored[i].object, i};
	if (im->nearly)
		qsort(l->early, im->nearly, sizeof(*l->early), by_id_and_place);
	return 0;
}

void layer_release(struct layer *l)
{
	for (size_t i = 0; i < l->nowners; i++)
		free(l->owner[i].spans.s);
	free(l->owner);
	free(l->early);
}

/* ---- looking up ---- */

int layer_spans(struct layer *l, uint32_t owner, const struct spans **ret, struct err *err)
{
	static const struct spans none;
	struct layer_owner key = {.id = owner}, *o = NULL;

	if (l->nowners)
		o = bsearch(&key, l->owner, l->nowners, sizeof(key), by_id);
	*ret = o ? &o->spans : &none;
	if (!o || o->is_known)
		return 0;
	for (size_t i = o->first; i < o->end; i++)
		if (add_chunk(&o->spans, &l->im->stored[i]) < 0)
			return err_nomem(err);
	spans_sort(&o->spans);
	o->is_known = true;
	return 0;
}

static size_t first_early(const struct layer *l, uint32_t id)
{
	size_t lo = 0, hi = l->im->nearly;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->early[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int layer_early(const struct layer *l, uint32_t id, struct spans *ret, struct err *err)
{
	*ret = (struct spans){0};
	for (size_t i = first_early(l, id); i < l->im->nearly && l->early[i].id == id; i++)
		if (add_chunk(ret, &l->im->stored[l->early[i].chunk]) < 0) {
			free(TAKE_PTR(ret->s));
			return err_nomem(err);
		}
	return 0;
}
