/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The heap: malloc'ed blocks of many sizes, brk, and that both go on growing. */
#include "subject.h"

#define N 600
static char *block[N];

static size_t size_of(int i)
{
	return 16 + (size_t)i * i * 3 % 70000;
}

int main(int argc, char **argv)
{
	char *end, *more;
	int i;

	subject_init(argc, argv);
	for (i = 0; i < N; i++)
		subject_pattern(block[i] = malloc(size_of(i)), size_of(i), i);
	end = MUST(sbrk(0));
	subject_ready();
	subject_wait();
	CHECK_EQ(sbrk(0), end);
	more = MUST(sbrk(3 << 20));
	CHECK_EQ(more, end);
	memset(more, 1, 3 << 20);
	for (i = 0; i < N; i++) {
		CHECK(subject_is_pattern(block[i], size_of(i), i), "block %d", i);
		free(block[i]);
	}
	for (i = 0; i < N; i++)
		CHECK((block[i] = malloc(size_of(i))), "no memory");
	subject_pass();
}
