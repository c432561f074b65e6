/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contents of the pages of mms that have children, as 128-bit XXH3 hashes: a child's page that is
 * equal to its parent's at the same address is not stored again. Pure code.
 */
#include "mem/pages.h"

struct page_hash_set {
	uint32_t mm;
	uint64_t *addr; /* ascending */
	XXH128_hash_t *hash;
	size_t n, max_addr, max_hash;
};

struct page_hashes {
	struct page_hash_set *set;
	size_t n, max;
};

const struct page_hash_set *page_hashes_find(const struct page_hashes *h, uint32_t mm)
{
	for (size_t i = 0; h && mm && i < h->n; i++)
		if (h->set[i].mm == mm)
			return &h->set[i];
	return NULL;
}

int page_hashes_start(struct page_hashes **h, uint32_t mm, struct page_hash_set **ret)
{
	if (!*h)
		*h = calloc(1, sizeof(**h));
	if (!*h || grow(&(*h)->set, &(*h)->max, (*h)->n, sizeof(*(*h)->set)) < 0)
		return -ENOMEM;
	(*h)->set[(*h)->n] = (struct page_hash_set){.mm = mm};
	*ret = &(*h)->set[(*h)->n++];
	return 0;
}

int page_hash_add(struct page_hash_set *s, uint64_t addr, XXH128_hash_t hash)
{
	if (grow(&s->addr, &s->max_addr, s->n, sizeof(*s->addr)) < 0 ||
	    grow(&s->hash, &s->max_hash, s->n, sizeof(*s->hash)) < 0)
		return -ENOMEM;
	s->addr[s->n] = addr;
	s->hash[s->n++] = hash;
	return 0;
}

bool page_hash_is_equal(const struct page_hash_set *s, uint64_t addr, XXH128_hash_t hash)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->addr[mid] < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->n && s->addr[lo] == addr && XXH128_isEqual(s->hash[lo], hash);
}

void page_hashes_free(struct page_hashes *h)
{
	for (size_t i = 0; h && i < h->n; i++) {
		free(h->set[i].addr);
		free(h->set[i].hash);
	}
	if (h)
		free(h->set);
	free(h);
}
