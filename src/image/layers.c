/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes one list of chunks out of the layers of an image: every page that is "as before" is looked up
 * in the early chunks, the last one first, then in the parent image, and there again, until it is
 * found as bytes or zeros. Ranges and spans are merged in order of address, so that the work is in
 * proportion to what there is; what a hostile image could make of it is bounded.
 */
#include "image/layers.h"
#include "base/util.h"

/* Pieces that memory may be made of, as many as an index holds extents, and ranges looked up. */
#define FOUND_MAX (INDEX_MAX / EXTENT_SIZE)
#define WORK_MAX  (1UL << 28)

struct ranges {
	struct extent *e;
	size_t n, max;
};

/* A question: where are these pages of an owner of a layer, as it is now or as it was before? */
struct question {
	uint32_t layer, owner;
	bool is_before;
	struct ranges want;
};

struct resolver {
	struct image *im;
	struct layer *layer; /* the image, its parent, ... */
	size_t nlayers;
	struct question *todo;
	size_t ntodo, max_todo;
	struct spans found; /* of the owner at hand */
	/* By rank of the Mm: whether it has children, and what was found, which they may share. */
	bool *has_children;
	struct spans *kept;
	uint64_t work, total;
	size_t max_chunks; /* of im->chunk */
	struct chunk_ref *chunk;
	size_t nchunks;
};

/* ---- ranges ---- */

static int ranges_add(struct ranges *r, uint64_t addr, uint64_t len)
{
	struct extent *last = r->n ? &r->e[r->n - 1] : NULL;

	if (last && last->addr + last->len == addr) {
		last->len += len;
		return 0;
	}
	if (grow(&r->e, &r->max, r->n, sizeof(*r->e)) < 0)
		return -ENOMEM;
	r->e[r->n++] = (struct extent){addr, len};
	return 0;
}

static int compare_extents(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void ranges_sort(struct ranges *r)
{
	for (size_t i = 1; i < r->n; i++)
		if (r->e[i].addr < r->e[i - 1].addr) {
			qsort(r->e, r->n, sizeof(*r->e), compare_extents);
			return;
		}
}

/* ---- what is wanted against what is there ---- */

/* Of the wanted pages those that are of a kind that has to be followed, and those that are not there. */
struct answer {
	struct ranges inherited, before, missing;
};

static void answer_release(struct answer *a)
{
	free(a->inherited.e);
	free(a->before.e);
	free(a->missing.e);
}

static int too_much(struct err *err)
{
	return err_set(err, -EBADMSG, "image is corrupt: its layers make up too many pieces");
}

static int take_span(struct resolver *r, const struct question *q, struct answer *a,
		     const struct span *s, uint64_t addr, uint64_t end, struct err *err)
{
	struct span part = {addr, end - addr, s->c, s->from, q->layer};
	int ret;

	if (s->c->kind == CHUNK_INHERIT)
		ret = ranges_add(&a->inherited, addr, end - addr);
	else if (s->c->kind == CHUNK_BEFORE)
		ret = ranges_add(&a->before, addr, end - addr);
	else if (++r->total > FOUND_MAX)
		return too_much(err);
	else {
		if (s->c->kind == CHUNK_DATA)
			part.from += (uint32_t)(addr - s->addr);
		ret = spans_add(&r->found, &part);
	}
	return ret < 0 ? err_nomem(err) : 0;
}

/* The first span that ends behind addr. */
static size_t span_at(const struct span *s, size_t from, size_t n, uint64_t addr)
{
	while (from < n) {
		size_t mid = from + (n - from) / 2;

		if (s[mid].addr + s[mid].len <= addr)
			from = mid + 1;
		else
			n = mid;
	}
	return from;
}

static int meet_range(struct resolver *r, const struct question *q, struct answer *a,
		      struct extent e, const struct span *s, size_t n, size_t *at, struct err *err)
{
	uint64_t end = e.addr + e.len;
	int ret = 0;

	*at = span_at(s, *at, n, e.addr);
	for (size_t i = *at; i < n && s[i].addr < end && ret == 0; i++) {
		uint64_t start = MAX(e.addr, s[i].addr), stop = MIN(end, s[i].addr + s[i].len);

		if (e.addr < start && ranges_add(&a->missing, e.addr, start - e.addr) < 0)
			return err_nomem(err);
		ret = take_span(r, q, a, &s[i], start, stop, err);
		e.addr = stop;
	}
	if (ret == 0 && e.addr < end && ranges_add(&a->missing, e.addr, end - e.addr) < 0)
		return err_nomem(err);
	return ret;
}

/* s: ascending, without overlap. */
static int meet(struct resolver *r, const struct question *q, const struct ranges *want,
		const struct span *s, size_t n, struct answer *a, struct err *err)
{
	size_t at = 0;
	int ret = 0;

	r->work += want->n;
	if (r->work > WORK_MAX)
		return too_much(err);
	for (size_t i = 0; i < want->n && ret == 0; i++)
		ret = meet_range(r, q, a, want->e[i], s, n, &at, err);
	return ret;
}

/* ---- from question to question ---- */

/* Takes want. */
static int ask(struct resolver *r, uint32_t layer, uint32_t owner, bool is_before,
	       struct ranges *want, struct err *err)
{
	if (!want->n)
		return 0;
	if (grow(&r->todo, &r->max_todo, r->ntodo, sizeof(*r->todo)) < 0)
		return err_nomem(err);
	r->todo[r->ntodo++] = (struct question){layer, owner, is_before, *want};
	*want = (struct ranges){0};
	return 0;
}

static int nowhere(const struct question *q, const struct ranges *r, struct err *err)
{
	return err_set(err, -EBADMSG,
		       "image is corrupt: the page at %#llx of %u is as before, but no layer has it",
		       (unsigned long long)r->e[0].addr, q->owner);
}

static int answer_now(struct resolver *r, const struct question *q, struct answer *a,
		      struct err *err)
{
	const struct image *im = r->layer[q->layer].im;
	const Cpx__Mm *mm = image_mm(im, q->owner);
	const struct spans *spans;
	int ret = layer_spans(&r->layer[q->layer], q->owner, &spans, err);

	if (ret == 0)
		ret = meet(r, q, &q->want, spans->s, spans->n, a, err);
	if (ret == 0 && a->missing.n)
		ret = nowhere(q, &a->missing, err);
	if (ret == 0 && mm)
		ret = ask(r, q->layer, mm->parent_mm, false, &a->inherited, err);
	return ret < 0 ? ret : ask(r, q->layer, q->owner, true, &a->before, err);
}

/* From the last span back to where an ascending row begins. */
static size_t row_start(const struct span *s, size_t end)
{
	size_t i = end - 1;

	while (i && s[i - 1].addr + s[i - 1].len <= s[i].addr)
		i--;
	return i;
}

/* What is still missing afterwards stays in *want. */
static int answer_early(struct resolver *r, const struct question *q, uint32_t id,
			struct ranges *want, struct err *err)
{
	struct spans early;
	int ret = layer_early(&r->layer[q->layer], id, &early, err);
	size_t end = early.n;

	while (ret == 0 && end && want->n) {
		size_t start = row_start(early.s, end);
		struct answer a = {0};

		ret = meet(r, q, want, early.s + start, end - start, &a, err);
		free(want->e);
		*want = a.missing;
		end = start;
	}
	free(early.s);
	return ret;
}

struct history {
	uint32_t early, before;
	bool is_mm;
};

static struct history history_of(const struct image *im, uint32_t owner)
{
	const Cpx__Mm *mm = image_mm(im, owner);
	const Cpx__Object *o = mm ? NULL : image_object(im, owner);

	if (mm)
		return (struct history){mm->early, mm->before_mm, true};
	return o ? (struct history){o->early, o->before_object, false} : (struct history){0};
}

static bool is_there(const struct image *im, uint32_t id, bool is_mm)
{
	return is_mm ? image_mm(im, id) != NULL : image_object(im, id) != NULL;
}

static int answer_before(struct resolver *r, struct question *q, struct err *err)
{
	struct history h = history_of(r->layer[q->layer].im, q->owner);
	int ret = h.early ? answer_early(r, q, h.early, &q->want, err) : 0;

	if (ret < 0 || !q->want.n)
		return ret;
	if (!h.before || q->layer + 1 == r->nlayers ||
	    !is_there(r->layer[q->layer + 1].im, h.before, h.is_mm))
		return nowhere(q, &q->want, err);
	return ask(r, q->layer + 1, h.before, false, &q->want, err);
}

static int answer_all(struct resolver *r, struct err *err)
{
	int ret = 0;

	while (r->ntodo && ret == 0) {
		struct question q = r->todo[--r->ntodo];
		struct answer a = {0};

		ret = q.is_before ? answer_before(r, &q, err) : answer_now(r, &q, &a, err);
		answer_release(&a);
		free(q.want.e);
	}
	return ret;
}

/* ---- what a child has from its parent ---- */

static bool is_same(const struct span *a, const struct span *b)
{
	return a->c == b->c && a->c->kind == CHUNK_DATA && a->from - a->addr == b->from - b->addr;
}

/* The part of a until *ret_end: is it the same bytes as the parent's? */
static bool is_shared(const struct span *a, uint64_t addr, const struct spans *parent, size_t *at,
		      uint64_t *ret_end)
{
	const struct span *b;

	*ret_end = a->addr + a->len;
	*at = span_at(parent->s, *at, parent->n, addr);
	if (*at == parent->n)
		return false;
	b = &parent->s[*at];
	if (b->addr > addr) {
		*ret_end = MIN(*ret_end, b->addr);
		return false;
	}
	*ret_end = MIN(*ret_end, b->addr + b->len);
	return is_same(a, b);
}

/* Pages of both that lead to the same bytes are shared copy-on-write: c NULL. */
static int share(struct resolver *r, const struct spans *parent, struct err *err)
{
	struct spans out = {0};
	size_t at = 0;

	for (size_t i = 0; i < r->found.n; i++) {
		const struct span *s = &r->found.s[i];

		for (uint64_t addr = s->addr, end; addr < s->addr + s->len; addr = end) {
			bool shared = is_shared(s, addr, parent, &at, &end);
			struct span part = {addr, end - addr, shared ? NULL : s->c,
					    s->c->kind == CHUNK_DATA && !shared ?
						    s->from + (uint32_t)(addr - s->addr) : 0,
					    shared ? UINT32_MAX : s->layer};

			if (spans_add(&out, &part) < 0) {
				free(out.s);
				return err_nomem(err);
			}
		}
	}
	free(r->found.s);
	r->found = out;
	return 0;
}

/* ---- the list ---- */

static int by_place(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->c != y->c)
		return x->c < y->c ? -1 : 1;
	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static void sort_by_place(struct spans *l)
{
	for (size_t i = 1; i < l->n; i++)
		if (by_place(&l->s[i - 1], &l->s[i]) > 0) {
			qsort(l->s, l->n, sizeof(*l->s), by_place);
			return;
		}
}

static int add_chunk(struct resolver *r, const struct chunk_ref *c, struct err *err)
{
	if (grow(&r->chunk, &r->max_chunks, r->nchunks, sizeof(*r->chunk)) < 0)
		return err_nomem(err);
	r->chunk[r->nchunks++] = *c;
	return 0;
}

/* Room for the pieces of what was found, which the image keeps. */
static int new_pieces(struct resolver *r, struct piece **ret, struct err *err)
{
	struct image_private *p = r->im->private;

	if (grow(&p->resolved, &p->max_resolved, p->nresolved, sizeof(*p->resolved)) < 0)
		return err_nomem(err);
	*ret = malloc((r->found.n + 1) * sizeof(**ret));
	if (!*ret)
		return err_nomem(err);
	p->resolved[p->nresolved++] = *ret;
	return 0;
}

static struct chunk_ref chunk_of(const struct resolver *r, const struct span *s, uint32_t owner)
{
	struct chunk_ref c = {.image = r->im, .kind = CHUNK_INHERIT};

	if (s->c && s->c->kind == CHUNK_DATA)
		c = *s->c;
	else if (s->c)
		c.kind = CHUNK_ZERO;
	c.object = owner;
	c.n = 0;
	return c;
}

/* Spans of one chunk, or without bytes, become a chunk again. Objects need not be told of zeros. */
static int emit_found(struct resolver *r, uint32_t owner, bool is_mm, struct err *err)
{
	struct piece *piece = NULL;
	int ret = new_pieces(r, &piece, err);

	for (size_t i = 0, k; i < r->found.n && ret == 0; i = k) {
		const struct span *s = &r->found.s[i];
		struct chunk_ref c = chunk_of(r, s, owner);

		c.piece = piece + i;
		for (k = i; k < r->found.n && r->found.s[k].c == s->c && c.n < EXTENTS_MAX; k++)
			c.piece[c.n++] = (struct piece){r->found.s[k].addr, r->found.s[k].len,
							r->found.s[k].from};
		if (is_mm || c.kind == CHUNK_DATA)
			ret = add_chunk(r, &c, err);
	}
	return ret;
}

/* ---- owner by owner ---- */

/* Adds what is not as before to the list, and what is, to *want. */
static int emit_own(struct resolver *r, const struct chunk_ref *c, size_t n, struct ranges *want,
		    struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++) {
		if (c[i].kind != CHUNK_BEFORE) {
			ret = add_chunk(r, &c[i], err);
			continue;
		}
		for (unsigned k = 0; k < c[i].n; k++)
			if (ranges_add(want, c[i].piece[k].addr, c[i].piece[k].len) < 0)
				return err_nomem(err);
	}
	return ret;
}

static int keep(struct resolver *r, size_t rank, struct err *err)
{
	for (size_t i = 0; i < r->found.n; i++)
		if (spans_add(&r->kept[rank], &r->found.s[i]) < 0)
			return err_nomem(err);
	return 0;
}

static int share_found(struct resolver *r, const struct id_entry *mm, struct err *err)
{
	const struct id_map *map = &r->im->private->map[MAP_MMS];
	const Cpx__Mm *msg = mm->msg;
	const struct id_entry *parent = id_map_find(map, msg->parent_mm);
	int ret = r->has_children[mm->rank] ? keep(r, mm->rank, err) : 0;

	return ret < 0 || !parent ? ret : share(r, &r->kept[parent->rank], err);
}

static int resolve_owner(struct resolver *r, const struct chunk_ref *c, size_t n, struct err *err)
{
	const struct id_entry *mm = id_map_find(&r->im->private->map[MAP_MMS], c->object);
	struct ranges want = {0};
	int ret = emit_own(r, c, n, &want, err);

	ranges_sort(&want);
	if (ret == 0)
		ret = ask(r, 0, c->object, true, &want, err);
	free(want.e);
	r->found.n = 0;
	if (ret == 0)
		ret = answer_all(r, err);
	spans_sort(&r->found);
	if (ret == 0 && mm && r->found.n)
		ret = share_found(r, mm, err);
	sort_by_place(&r->found);
	return ret < 0 || !r->found.n ? ret : emit_found(r, c->object, mm, err);
}

static int resolve_all(struct resolver *r, struct err *err)
{
	const struct image *im = r->im;
	int ret = 0;

	for (size_t i = im->nearly, k; i < im->nstored && ret == 0; i = k) {
		for (k = i + 1; k < im->nstored; k++)
			if (im->stored[k].object != im->stored[i].object)
				break;
		ret = resolve_owner(r, &im->stored[i], k - i, err);
	}
	return ret;
}

/* ---- the function ---- */

static void find_children(struct resolver *r)
{
	const struct id_map *map = &r->im->private->map[MAP_MMS];

	for (size_t i = 0; i < r->im->nmms; i++) {
		const struct id_entry *parent = id_map_find(map, r->im->mm[i]->parent_mm);

		if (parent)
			r->has_children[parent->rank] = true;
	}
}

static int init(struct resolver *r, struct err *err)
{
	struct layer *l;
	int ret = 0;

	for (const struct image *im = r->im; im; im = im->parent)
		r->nlayers++;
	l = r->layer = calloc(r->nlayers, sizeof(*r->layer));
	r->kept = calloc(r->im->nmms + 1, sizeof(*r->kept));
	r->has_children = calloc(r->im->nmms + 1, sizeof(*r->has_children));
	if (!r->layer || !r->kept || !r->has_children)
		return err_nomem(err);
	find_children(r);
	for (const struct image *im = r->im; im && ret == 0; im = im->parent)
		ret = layer_init(l++, im, err);
	return ret;
}

static void release(struct resolver *r)
{
	for (size_t i = 0; i < r->ntodo; i++)
		free(r->todo[i].want.e);
	for (size_t i = 0; i < r->nlayers && r->layer; i++)
		layer_release(&r->layer[i]);
	for (size_t i = 0; i < r->im->nmms && r->kept; i++)
		free(r->kept[i].s);
	free(r->todo);
	free(r->layer);
	free(r->kept);
	free(r->has_children);
	free(r->found.s);
	free(r->chunk);
}

int layers_resolve(struct image *im, struct err *err)
{
	struct resolver r = {.im = im};
	int ret = init(&r, err);

	if (ret == 0)
		ret = resolve_all(&r, err);
	if (ret == 0) {
		im->chunk = TAKE_PTR(r.chunk);
		im->nchunks = r.nchunks;
	}
	release(&r);
	return ret;
}
