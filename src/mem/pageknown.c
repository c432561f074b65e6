/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image is known to hold of each page of an address space: one byte a page, in blocks of
 * 2 MiB that exist where something is known. Pure code.
 */
#include "mem/pages.h"

#define BLOCK_PAGES 512
#define BLOCK_SIZE  ((uint64_t)BLOCK_PAGES * CPX_PAGE_SIZE)

struct known_block {
	uint64_t addr;
	uint8_t state[BLOCK_PAGES];
};

/* Index of the first block that does not end before addr. */
static size_t block_after(const struct page_known *k, uint64_t addr)
{
	size_t lo = 0, hi = k->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (k->block[mid]->addr + BLOCK_SIZE <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct known_block *block_add(struct page_known *k, size_t at, uint64_t addr)
{
	struct known_block *b = calloc(1, sizeof(*b));

	if (!b || grow(&k->block, &k->max, k->n, sizeof(*k->block)) < 0) {
		free(b);
		return NULL;
	}
	b->addr = addr;
	memmove(&k->block[at + 1], &k->block[at], (k->n - at) * sizeof(*k->block));
	k->block[at] = b;
	k->n++;
	return b;
}

/* [addr, addr + len) lies in the block of base. */
static int set_in_block(struct page_known *k, uint64_t base, uint64_t addr, uint64_t len,
			enum page_state state)
{
	size_t at = block_after(k, addr);
	struct known_block *b = at < k->n && k->block[at]->addr == base ? k->block[at] : NULL;

	if (!b)
		b = block_add(k, at, base);
	if (!b)
		return -ENOMEM;
	memset(b->state + (addr - base) / CPX_PAGE_SIZE, state, len / CPX_PAGE_SIZE);
	return 0;
}

/* However large the range is. */
static void forget(struct page_known *k, uint64_t addr, uint64_t end)
{
	for (size_t i = block_after(k, addr); i < k->n && k->block[i]->addr < end; i++) {
		struct known_block *b = k->block[i];
		uint64_t from = MAX(addr, b->addr), to = MIN(end, b->addr + BLOCK_SIZE);

		memset(b->state + (from - b->addr) / CPX_PAGE_SIZE, PAGE_UNKNOWN,
		       (to - from) / CPX_PAGE_SIZE);
	}
}

int page_known_set(struct page_known *k, uint64_t addr, uint64_t len, enum page_state state)
{
	int r = 0;

	if (state == PAGE_UNKNOWN)
		forget(k, addr, addr + len);
	while (len && r == 0 && state != PAGE_UNKNOWN) {
		uint64_t base = ALIGN_DOWN(addr, BLOCK_SIZE);
		uint64_t here = MIN(len, base + BLOCK_SIZE - addr);

		r = set_in_block(k, base, addr, here, state);
		addr += here;
		len -= here;
	}
	return r;
}

enum page_state page_known_get(const struct page_known *k, uint64_t addr, uint64_t end,
			       uint64_t *ret_end)
{
	size_t at = block_after(k, addr), i;
	const struct known_block *b = at < k->n ? k->block[at] : NULL;

	if (!b || b->addr > addr) {
		*ret_end = b ? MIN(end, b->addr) : end;
		return PAGE_UNKNOWN;
	}
	at = i = (addr - b->addr) / CPX_PAGE_SIZE;
	while (i < BLOCK_PAGES && b->state[i] == b->state[at])
		i++;
	*ret_end = MIN(end, b->addr + i * CPX_PAGE_SIZE);
	return b->state[at];
}

void page_known_release(struct page_known *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->block[i]);
	free(k->block);
	*k = (struct page_known){0};
}
