/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns no state: base/clock.h, nanosleep(2). */
#include "base/pace.h"

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/util.h"

#define SECOND 1000000000LL

void pace_start(struct pace *p, uint64_t rate)
{
	p->rate = rate;
	p->start_ns = monotonic_ns();
}

static int64_t passed(const struct pace *p)
{
	return (int64_t)(monotonic_ns() - p->start_ns);
}

/* Signals that nobody told us of may end a sleep, and one of ours may come just before it. */
int pace_wait(const struct pace *p, uint64_t bytes, struct err *err)
{
	int64_t due = p->rate ? (int64_t)((double)bytes / (double)p->rate * SECOND) : 0, left;
	int r = 0;

	while (r == 0 && p->rate && (left = due - passed(p)) > 0) {
		struct timespec t = {.tv_nsec = (long)MIN(left, SECOND / 10)};

		nanosleep(&t, NULL);
		r = interrupt_check(err);
	}
	return r;
}
