/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where missing memory is while a tree moves, drops and forks it: src/mem/lazyspace.c, lazychoose.c. */
#include "base/util.h"
#include "image/reader.h"
#include "mem/lazy.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define P CPX_PAGE_SIZE
#define A 0x10000000UL
#define B 0x20000000UL
#define MM 7

/* Two mappings that touch each other, at A, of 8 pages each, the second one of a file; a third at B. Two
 * chunks: pages 0-11 from A on, in the order 4-11, 0-3; and 3 pages from B on. */
struct world {
	struct image image;
	struct image_private private;
	Cpx__Mm mm, *mms[1];
	Cpx__Vma vma[3], *vmas[3];
	struct piece piece[3];
	struct chunk_ref chunk[2];
	struct lazy_choice choice;
	struct lazy_state *st;
	struct lazy_space *space;
};

static void set_vma(struct world *w, int i, uint64_t start, uint64_t end, Cpx__Vma__Kind kind)
{
	cpx__vma__init(&w->vma[i]);
	w->vma[i].start = start;
	w->vma[i].end = end;
	w->vma[i].kind = kind;
	w->vmas[i] = &w->vma[i];
}

static void make_world(struct world *w)
{
	struct err err = ERR_INIT;

	*w = (struct world){0};
	set_vma(w, 0, A, A + 8 * P, CPX__VMA__KIND__ANON);
	set_vma(w, 1, A + 8 * P, A + 16 * P, CPX__VMA__KIND__FILE_PRIVATE);
	set_vma(w, 2, B, B + 3 * P, CPX__VMA__KIND__ANON);
	cpx__mm__init(&w->mm);
	w->mm.id = MM;
	w->mm.vma = w->vmas;
	w->mm.n_vma = 3;
	w->mms[0] = &w->mm;
	w->piece[0] = (struct piece){A, 4 * P, 8 * P};
	w->piece[1] = (struct piece){A + 4 * P, 8 * P, 0};
	w->piece[2] = (struct piece){B, 3 * P, 0};
	w->chunk[0] = (struct chunk_ref){.object = MM, .kind = CHUNK_DATA, .piece = w->piece, .n = 2, .data_len = 12 * P};
	w->chunk[1] = (struct chunk_ref){.object = MM, .kind = CHUNK_DATA, .piece = w->piece + 2, .n = 1, .data_len = 3 * P};
	w->image = (struct image){.mm = w->mms, .nmms = 1, .chunk = w->chunk, .nchunks = 2,
				  .private = &w->private};
	assert_int_equal(id_map_build(&w->private.map[MAP_MMS], (void **)w->mms, 1, offsetof(Cpx__Mm, id), "mm", &err), 0);
	assert_int_equal(lazy_choose(&w->image, &w->choice, &err), 0);
	assert_int_equal(lazy_state_new(&w->st, &err), 0);
	assert_int_equal(lazy_space_add(w->st, &w->image, &w->choice, MM, &err), 0);
	w->space = &w->st->space[0];
	w->space->state = LAZY_LIVE;
}

static void free_world(struct world *w)
{
	id_map_release(&w->private.map[MAP_MMS]);
	lazy_choice_release(&w->choice);
	lazy_state_free(w->st);
}

static void assert_at(const struct lazy_space *s, uint64_t addr, uint64_t pages, uint32_t chunk, uint32_t from)
{
	struct lazy_span run;

	lazy_find(s, addr, UINT64_MAX, &run);
	assert_int_equal(run.len, pages * P);
	if (!pages)
		return;
	assert_int_equal(run.addr, addr);
	assert_int_equal(run.chunk, chunk);
	assert_int_equal(run.from, from * P);
}

/* What is a file's is filled before, from the same chunk. */
static void test_choice(void **state)
{
	struct world w;

	make_world(&w);
	assert_int_equal(w.choice.bytes, 11 * P);
	assert_int_equal(w.choice.rest[0].n, 1);
	assert_int_equal(w.choice.rest[0].piece[0].addr, A + 8 * P);
	assert_int_equal(w.choice.rest[0].piece[0].len, 4 * P);
	assert_int_equal(w.choice.rest[0].piece[0].from, 4 * P);
	assert_int_equal(w.choice.rest[1].n, 0);
	free_world(&w);
}

static void test_arguments_come_first(void **state)
{
	struct lazy_choice c = {0};
	struct err err = ERR_INIT;
	struct world w;

	make_world(&w);
	w.mm.arg_start = B + P + 100;
	w.mm.env_end = B + P + 200;
	assert_int_equal(lazy_choose(&w.image, &c, &err), 0);
	assert_int_equal(c.bytes, 10 * P);
	assert_int_equal(c.rest[1].n, 1);
	assert_int_equal(c.rest[1].piece[0].addr, B + P);
	assert_int_equal(c.rest[1].piece[0].from, P);
	lazy_choice_release(&c);
	free_world(&w);
}

/* One page of a chunk at two places: such an image is filled as it says, but not later. */
static void test_a_page_twice(void **state)
{
	struct lazy_choice c = {0};
	struct err err = ERR_INIT;
	struct world w;

	make_world(&w);
	w.piece[0].from = 2 * P;
	assert_int_equal(lazy_choose(&w.image, &c, &err), 0);
	assert_int_equal(c.bytes, 3 * P);
	assert_int_equal(c.rest[0].n, 2);
	lazy_choice_release(&c);
	free_world(&w);
}

/* All ranges of a bitmap against bit by bit. */
static void test_bits(void **state)
{
	for (unsigned a = 0; a < 256; a += 7)
		for (unsigned b = a + 1; b <= 256; b += 5) {
			uint64_t m[LAZY_WORDS] = {0};
			bool is_set;

			lazy_bits_set(m, a, b);
			for (unsigned i = 0; i < 256; i++) {
				assert_int_equal(m[i / 64] >> (i % 64) & 1, i >= a && i < b);
				assert_int_equal(lazy_bits_any(m, i, i + 1), i >= a && i < b);
				assert_int_equal(lazy_bits_run(m, i, 256, &is_set),
						 i < a ? a - i : i < b ? b - i : 256 - i);
				assert_int_equal(is_set, i >= a && i < b);
			}
			assert_int_equal(lazy_bits_clear(m, 0, (a + b) / 2), (a + b) / 2 - a);
			assert_int_equal(lazy_bits_any(m, 0, 256), (a + b) / 2 < b);
		}
}

static void test_find_and_done(void **state)
{
	struct lazy_span run;
	struct world w;

	make_world(&w);
	assert_int_equal(w.space->left, 11);
	assert_at(w.space, A, 4, 0, 8);
	assert_at(w.space, A + 5 * P, 3, 0, 1);
	assert_at(w.space, A + 8 * P, 0, 0, 0);
	assert_at(w.space, A - P, 0, 0, 0);
	lazy_find(w.space, A + P, 2 * P, &run);
	lazy_done(w.space, &run, P);
	assert_at(w.space, A, 1, 0, 8);
	assert_at(w.space, A + P, 0, 0, 0);
	assert_int_equal(w.space->left, 10);
	w.space->left = 0;
	lazy_space_recount(w.space);
	assert_int_equal(w.space->left, 10);
	while (lazy_next(w.space, 2 * P, &run)) {
		assert_in_range(run.len, P, 2 * P);
		lazy_done(w.space, &run, run.len);
	}
	assert_int_equal(w.space->left, 0);
	free_world(&w);
}

static void test_drop(void **state)
{
	struct world w;

	make_world(&w);
	lazy_drop(w.space, A + 3 * P, A + 6 * P);
	assert_int_equal(w.space->left, 8);
	assert_at(w.space, A, 3, 0, 8);
	assert_at(w.space, A + 3 * P, 0, 0, 0);
	assert_at(w.space, A + 6 * P, 2, 0, 2);
	lazy_drop(w.space, 0, UINT64_MAX);
	assert_int_equal(w.space->left, 0);
	free_world(&w);
}

static void test_move(void **state)
{
	struct err err = ERR_INIT;
	struct world w;

	make_world(&w);
	w.st->seq = 5;
	assert_int_equal(lazy_move(w.st, w.space, A + 2 * P, 0x1000000, 4 * P, &err), 0);
	assert_int_equal(w.space->table->seq, 5);
	assert_int_equal(w.space->left, 11);
	assert_at(w.space, A, 2, 0, 8);
	assert_at(w.space, A + 2 * P, 0, 0, 0);
	assert_at(w.space, 0x1000000, 2, 0, 10);
	assert_at(w.space, 0x1000000 + 2 * P, 2, 0, 0);
	assert_at(w.space, A + 6 * P, 2, 0, 2);
	free_world(&w);
}

/* What was at the new place is gone for good. */
static void test_move_onto_others(void **state)
{
	struct err err = ERR_INIT;
	struct world w;

	make_world(&w);
	assert_int_equal(lazy_move(w.st, w.space, B, A + P, 2 * P, &err), 0);
	assert_int_equal(w.space->left, 9);
	assert_at(w.space, A, 1, 0, 8);
	assert_at(w.space, A + P, 2, 1, 0);
	assert_at(w.space, A + 3 * P, 1, 0, 11);
	assert_at(w.space, B, 0, 0, 0);
	assert_at(w.space, B + 2 * P, 1, 1, 2);
	free_world(&w);
}

/* A child has what its parent misses at that moment, and goes its own way then. */
static void test_fork(void **state)
{
	struct lazy_space *child = NULL;
	struct err err = ERR_INIT;
	struct world w;

	make_world(&w);
	lazy_drop(w.space, A, A + P);
	w.st->seq = 9;
	assert_int_equal(lazy_fork(w.st, w.space, 42, &child, &err), 0);
	assert_int_equal(child->uffd, 42);
	assert_int_equal(child->seq, 9);
	assert_int_equal(child->left, 10);
	lazy_drop(w.space, 0, UINT64_MAX);
	assert_at(child, A + P, 3, 0, 9);
	assert_int_equal(lazy_move(w.st, child, A + P, 0x1000000, P, &err), 0);
	assert_at(child, 0x1000000, 1, 0, 9);
	assert_at(w.space, A + P, 0, 0, 0);
	lazy_space_end(child);
	child->uffd = -1;
	assert_int_equal(lazy_fork(w.st, w.space, 43, &child, &err), 0);
	assert_ptr_equal(child, &w.st->space[1]); /* its place is free again */
	free_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_arguments_come_first),
		cmocka_unit_test(test_a_page_twice),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_find_and_done),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_onto_others),
		cmocka_unit_test(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
