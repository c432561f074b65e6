/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 256 MiB, changing all the time below while it is dumped: what was written stays, nothing torn. */
#include "subject.h"

#define SIZE (256UL << 20)
static uint64_t *words;
static volatile bool stop;

/* Each page carries its round in its first and last word, written last to first. */
static void *writes(void *arg)
{
	for (uint64_t round = 1; !stop; round++)
		for (size_t i = 0; i < SIZE / 8 && !stop; i += 512 * 16) {
			__atomic_store_n(&words[i + 511], round, __ATOMIC_SEQ_CST);
			__atomic_store_n(&words[i], round, __ATOMIC_SEQ_CST);
		}
	return NULL;
}

static void check(void)
{
	for (size_t i = 0; i < SIZE / 8; i += 512) {
		uint64_t first = words[i], last = words[i + 511];

		if (i % (512 * 16) == 0)
			CHECK(last == first || last == first + 1, "page %zu has %lu and %lu", i / 512, first, last);
		CHECK(words[i + 5] == i * 11400714819323198485ULL, "page %zu", i / 512);
	}
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	words = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (size_t i = 0; i < SIZE / 8; i += 512)
		words[i + 5] = i * 11400714819323198485ULL;
	t = subject_thread(writes, NULL);
	subject_ready();
	subject_wait();
	stop = true;
	subject_join_thread(t);
	check();
	subject_pass();
}
