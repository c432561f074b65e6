/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stack: deep frames keep their content, and it grows further than it was. */
#include "subject.h"

#define DEPTH 200

static long recurse(int depth)
{
	char frame[4000];
	long sum = 0;

	subject_pattern(frame, sizeof(frame), depth);
	if (depth < DEPTH) {
		sum = recurse(depth + 1);
	} else {
		subject_ready();
		subject_wait();
	}
	CHECK(subject_is_pattern(frame, sizeof(frame), depth), "frame %d", depth);
	return sum + depth;
}

static int grow(int depth)
{
	volatile char frame[65536];

	frame[0] = frame[65535] = depth;
	return depth ? grow(depth - 1) + frame[0] : frame[65535];
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	CHECK_EQ(recurse(1), DEPTH * (DEPTH + 1) / 2);
	grow(80); /* 5 MiB */
	subject_pass();
}
