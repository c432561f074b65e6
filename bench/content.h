/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of a workload: how it is filled, and the primitives that need its bytes. */
#ifndef BENCH_CONTENT_H
#define BENCH_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define PAGE  4096UL
#define PIECE (1UL << 20)
#define RUN   (16 * PAGE) /* FILL_HALF: so much of data, then as much of zeros */

enum fill { FILL_RANDOM, FILL_TEXT, FILL_HALF };

struct memory {
	uint8_t *bytes;
	size_t size;
	enum fill fill;
};

/* What takes so and so many ns. */
uint64_t now_ns(void);
void die(const char *what) __attribute__((noreturn));
uint64_t random_next(uint64_t *state);

/* Fresh anonymous memory, every page of it written. `seed` makes it differ from that of others. */
struct memory memory_new(size_t mib, enum fill fill, uint64_t seed);

void memory_touch(struct memory *m);
void memory_dirty(struct memory *m, size_t pages);

/* Both return the ns that they took. */
uint64_t memory_write(const struct memory *m, const char *path);
uint64_t memory_lz4(const struct memory *m, unsigned threads);

#endif
