/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A SIGEV_THREAD timer of the C library, which has a helper thread of its own, goes on ticking. */
#include "subject.h"

static volatile int ticks;

static void tick(union sigval v)
{
	__atomic_add_fetch(&ticks, v.sival_int, __ATOMIC_SEQ_CST);
}

int main(int argc, char **argv)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tick, .sigev_value.sival_int = 1};
	struct itimerspec s = {{0, 10000000}, {0, 10000000}};
	timer_t t;
	int before;

	subject_init(argc, argv);
	MUST(timer_create(CLOCK_MONOTONIC, &ev, &t));
	MUST(timer_settime(t, 0, &s, NULL));
	while (!ticks)
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	before = ticks;
	while (ticks < before + 5)
		subject_sleep_ms(5);
	MUST(timer_delete(t));
	subject_pass();
}
