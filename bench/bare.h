/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all bare primitives need: the time, and a way out. */
#ifndef CPX_BENCH_BARE_H
#define CPX_BENCH_BARE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

#endif
