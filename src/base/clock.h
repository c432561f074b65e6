/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clock_gettime(2) in nanoseconds. The clocks asked for here are always there. */
#ifndef CPX_BASE_CLOCK_H
#define CPX_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec t = {0};

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline uint64_t monotonic_ns(void)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

#endif
