/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the memory of an image holds at an address, through all its layers: for a dump that stores only
 * what is different. Pages are compared byte by byte; a chunk is read as a whole, with its checksum.
 *
 * The more layers, the more chunks hold pages of one region, so some are kept, for all threads together.
 */
#include "image/layers.h"
#include "base/util.h"

#include <pthread.h>

#define KEPT 16

struct kept_chunk {
	const struct chunk_ref *chunk; /* NULL: nothing is kept here */
	uint8_t *data;
	unsigned users;
	bool is_loading;
	uint64_t used; /* when, by the cache's own count */
};

struct chunk_cache {
	pthread_mutex_t lock;
	pthread_cond_t has_changed; /* something is loaded, or not in use any more */
	struct kept_chunk kept[KEPT];
	uint64_t uses;
};

struct image_lookup {
	struct spans spans;	  /* by address */
	struct image_lookup *up; /* of the parent_mm, for inherited pages; NULL: none */
	struct chunk_cache *cache; /* of the first one; NULL in the others */
};

/* ---- chunks by owner: they are in the order of the records (validate_chunk()) ---- */

static size_t rank_of(const struct image *im, uint32_t owner)
{
	const struct id_entry *mm = id_map_find(&im->private->map[MAP_MMS], owner);
	const struct id_entry *object = mm ? NULL : id_map_find(&im->private->map[MAP_OBJECTS], owner);

	return mm ? im->nobjects + mm->rank : object ? object->rank : SIZE_MAX;
}

/* The first chunk whose owner has this rank or one behind it. */
static size_t first_from(const struct image *im, size_t rank)
{
	size_t lo = 0, hi = im->nchunks;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (rank_of(im, im->chunk[mid].object) < rank)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t image_chunks_of(const struct image *im, uint32_t owner, size_t *ret_first)
{
	size_t rank = rank_of(im, owner);

	*ret_first = rank == SIZE_MAX ? im->nchunks : first_from(im, rank);
	return rank == SIZE_MAX ? 0 : first_from(im, rank + 1) - *ret_first;
}

/* ---- chunks that are kept ---- */

static struct chunk_cache *cache_new(void)
{
	struct chunk_cache *c = calloc(1, sizeof(*c));

	if (c) {
		pthread_mutex_init(&c->lock, NULL);
		pthread_cond_init(&c->has_changed, NULL);
	}
	return c;
}

static void cache_free(struct chunk_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < KEPT; i++)
		free(c->kept[i].data);
	pthread_cond_destroy(&c->has_changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct kept_chunk *kept_of(struct chunk_cache *c, const struct chunk_ref *chunk)
{
	for (size_t i = 0; i < KEPT; i++)
		if (c->kept[i].chunk == chunk)
			return &c->kept[i];
	return NULL;
}

/* The one that was not used for longest, NULL: all are in use. */
static struct kept_chunk *oldest(struct chunk_cache *c)
{
	struct kept_chunk *ret = NULL;

	for (size_t i = 0; i < KEPT; i++)
		if (!c->kept[i].users && (!ret || c->kept[i].used < ret->used))
			ret = &c->kept[i];
	return ret;
}

static int read_chunk(struct kept_chunk *k, struct err *err)
{
	if (!k->data)
		k->data = malloc(CHUNK_MAX);
	return k->data ? image_read_chunk(k->chunk, k->data, err) : err_nomem(err);
}

/* Called and returns with the lock held. */
static int load(struct chunk_cache *c, struct kept_chunk *k, const struct chunk_ref *chunk,
		struct err *err)
{
	int r;

	k->chunk = chunk;
	k->users = 1;
	k->is_loading = true;
	pthread_mutex_unlock(&c->lock);
	r = read_chunk(k, err);
	pthread_mutex_lock(&c->lock);
	k->is_loading = false;
	if (r < 0) {
		k->chunk = NULL;
		k->users = 0;
	}
	pthread_cond_broadcast(&c->has_changed);
	return r;
}

/* Called with the lock held; *ret is in use until cache_put(). */
static int cache_get(struct chunk_cache *c, const struct chunk_ref *chunk, struct kept_chunk **ret,
		     struct err *err)
{
	struct kept_chunk *k;

	while ((k = kept_of(c, chunk)) ? k->is_loading : !(k = oldest(c)))
		pthread_cond_wait(&c->has_changed, &c->lock);
	*ret = k;
	k->used = ++c->uses;
	if (k->chunk != chunk)
		return load(c, k, chunk, err);
	k->users++;
	return 0;
}

static void cache_put(struct chunk_cache *c, struct kept_chunk *k)
{
	pthread_mutex_lock(&c->lock);
	if (!--k->users)
		pthread_cond_broadcast(&c->has_changed);
	pthread_mutex_unlock(&c->lock);
}

/* ---- pages ---- */

void image_lookup_free(struct image_lookup *l)
{
	while (l) {
		struct image_lookup *up = l->up;

		free(l->spans.s);
		cache_free(l->cache);
		free(l);
		l = up;
	}
}

static int add_owner(struct image_lookup *l, const struct image *im, uint32_t owner, bool *ret_inherits)
{
	size_t first, n = image_chunks_of(im, owner, &first);

	for (size_t i = first; i < first + n; i++) {
		const struct chunk_ref *c = &im->chunk[i];

		*ret_inherits |= c->kind == CHUNK_INHERIT;
		for (unsigned k = 0; k < c->n; k++) {
			const struct piece *p = &c->piece[k];

			if (spans_add(&l->spans, &(struct span){p->addr, p->len, c, p->from, 0}) < 0)
				return -ENOMEM;
		}
	}
	spans_sort(&l->spans);
	return 0;
}

static int add_generations(const struct image *im, uint32_t owner, struct image_lookup **at)
{
	while (owner) {
		const Cpx__Mm *mm = image_mm(im, owner);
		bool inherits = false;

		*at = calloc(1, sizeof(**at));
		if (!*at || add_owner(*at, im, owner, &inherits) < 0)
			return -ENOMEM;
		at = &(*at)->up;
		owner = inherits && mm ? mm->parent_mm : 0; /* parents come before their children */
	}
	return 0;
}

int image_lookup_new(const struct image *im, uint32_t owner, struct image_lookup **ret,
		     struct err *err)
{
	int r;

	*ret = NULL;
	r = add_generations(im, owner, ret);
	if (r == 0 && *ret && !((*ret)->cache = cache_new()))
		r = -ENOMEM;
	if (r == 0)
		return 0;
	image_lookup_free(TAKE_PTR(*ret));
	return err_nomem(err);
}

/* The first that ends behind addr; may be the end of the list. */
static size_t find_from(const struct image_lookup *l, uint64_t addr)
{
	size_t lo = 0, hi = l->spans.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (l->spans.s[mid].addr + l->spans.s[mid].len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct span *find(const struct image_lookup *l, uint64_t addr)
{
	size_t i = find_from(l, addr);

	return i < l->spans.n && l->spans.s[i].addr <= addr ? &l->spans.s[i] : NULL;
}

bool image_lookup_next(const struct image_lookup *l, uint64_t *addr, uint64_t *ret_end)
{
	const struct spans *s = &l->spans;
	size_t i = find_from(l, *addr);

	if (i == s->n)
		return false;
	*addr = MAX(*addr, s->s[i].addr);
	*ret_end = s->s[i].addr + s->s[i].len;
	while (++i < s->n && s->s[i].addr == *ret_end)
		*ret_end += s->s[i].len;
	return true;
}

static int compare(struct chunk_cache *c, const struct span *s, uint64_t addr, const void *page,
		   struct err *err)
{
	struct kept_chunk *k;
	int r;

	pthread_mutex_lock(&c->lock);
	r = cache_get(c, s->c, &k, err);
	pthread_mutex_unlock(&c->lock);
	if (r < 0)
		return r;
	r = memcmp(k->data + s->from + (addr - s->addr), page, CPX_PAGE_SIZE) == 0;
	cache_put(c, k);
	return r;
}

int image_lookup_compare(struct image_lookup *l, uint64_t addr, const void *page, struct err *err)
{
	struct chunk_cache *cache = l->cache;
	const struct span *s = find(l, addr);

	while (s && s->c->kind == CHUNK_INHERIT) {
		l = l->up;
		s = l ? find(l, addr) : NULL;
	}
	return s && s->c->kind == CHUNK_DATA ? compare(cache, s, addr, page, err) : 0;
}
