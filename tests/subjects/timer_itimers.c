/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ITIMER_REAL (what remains of it), ITIMER_VIRTUAL and ITIMER_PROF with their intervals. */
#include "subject.h"

#include <sys/time.h>

static const struct itimerval set_to[3] = {
	{{100, 0}, {200, 0}}, {{30, 250000}, {40, 500000}}, {{50, 750000}, {60, 0}},
};

static void check(int which, int64_t slept_ms)
{
	int64_t set_ms = set_to[which].it_value.tv_sec * 1000 + set_to[which].it_value.tv_usec / 1000, left_ms;
	struct itimerval now;

	MUST(getitimer(which, &now));
	CHECK_EQ(now.it_interval.tv_sec, set_to[which].it_interval.tv_sec);
	CHECK_EQ(now.it_interval.tv_usec / 10000, set_to[which].it_interval.tv_usec / 10000);
	left_ms = now.it_value.tv_sec * 1000 + now.it_value.tv_usec / 1000;
	CHECK(left_ms <= set_ms + 20, "timer %d has %lld ms left", which, (long long)left_ms);
	CHECK(left_ms >= set_ms - (which == ITIMER_REAL ? slept_ms + 50 : 3000), "timer %d has %lld ms left",
	      which, (long long)left_ms);
	if (which == ITIMER_REAL)
		CHECK(left_ms <= set_ms - 290, "timer started anew: %lld ms left", (long long)left_ms);
}

int main(int argc, char **argv)
{
	int64_t start;
	int i;

	subject_init(argc, argv);
	for (i = 0; i < 3; i++)
		MUST(setitimer(i, &set_to[i], NULL));
	start = subject_now_ms();
	subject_sleep_ms(300);
	subject_ready();
	subject_wait();
	for (i = 0; i < 3; i++)
		check(i, subject_now_ms() - start);
	subject_pass();
}
