/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bitmaps of a chunk's pages, by ranges: images have millions of pages, and a lazy start few milliseconds. */
#include "mem/lazy.h"

/* Of [a, b), what lies in word w. */
static uint64_t mask(size_t w, unsigned a, unsigned b)
{
	unsigned from = (unsigned)w * 64, lo = a > from ? a - from : 0, hi = b > from ? b - from : 0;

	if (lo >= 64 || !hi || lo >= hi)
		return 0;
	return (hi >= 64 ? ~0ULL : (1ULL << hi) - 1) & ~((1ULL << lo) - 1);
}

bool lazy_bits_any(const uint64_t *m, unsigned a, unsigned b)
{
	for (size_t w = a / 64; w < LAZY_WORDS && w * 64 < b; w++)
		if (m[w] & mask(w, a, b))
			return true;
	return false;
}

void lazy_bits_set(uint64_t *m, unsigned a, unsigned b)
{
	for (size_t w = a / 64; w < LAZY_WORDS && w * 64 < b; w++)
		m[w] |= mask(w, a, b);
}

unsigned lazy_bits_clear(uint64_t *m, unsigned a, unsigned b)
{
	unsigned n = 0;

	for (size_t w = a / 64; w < LAZY_WORDS && w * 64 < b; w++) {
		n += (unsigned)__builtin_popcountll(m[w] & mask(w, a, b));
		m[w] &= ~mask(w, a, b);
	}
	return n;
}

unsigned lazy_bits_run(const uint64_t *m, unsigned a, unsigned b, bool *ret_set)
{
	bool is_set = m[a / 64] >> (a % 64) & 1;

	*ret_set = is_set;
	for (size_t w = a / 64; w < LAZY_WORDS && w * 64 < b; w++) {
		uint64_t other = (is_set ? ~m[w] : m[w]) & mask(w, a, b);

		if (other)
			return (unsigned)(w * 64) + (unsigned)__builtin_ctzll(other) - a;
	}
	return b - a;
}
