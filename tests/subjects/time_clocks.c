/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clocks never run backwards, are near to what they were, and the vdso gives them. */
#include "subject.h"

#include <sys/auxv.h>

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_MONOTONIC_RAW,
				   CLOCK_MONOTONIC_COARSE};
#define N (sizeof(clocks) / sizeof(clocks[0]))

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	MUST(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int64_t now_by_syscall(clockid_t clock)
{
	struct timespec ts;

	MUST(syscall(SYS_clock_gettime, clock, &ts));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	int64_t before[N], seen, last = 0;
	unsigned long vdso;

	subject_init(argc, argv);
	vdso = getauxval(AT_SYSINFO_EHDR);
	for (size_t i = 0; i < N; i++)
		before[i] = now(clocks[i]);
	subject_ready();
	while (!subject_is_go()) { /* many readings, some of them over the dump */
		for (int i = 0; i < 1000; i++) {
			seen = now(CLOCK_MONOTONIC);
			CHECK(seen >= last, "went back by %lld ns", (long long)(last - seen));
			last = seen;
		}
		subject_sleep_ms(1);
	}
	for (size_t i = 0; i < N; i++) {
		seen = now(clocks[i]);
		CHECK(seen >= before[i], "clock %d", clocks[i]);
		CHECK(seen < before[i] + 60 * 1000000000LL, "clock %d", clocks[i]);
		CHECK(llabs(now_by_syscall(clocks[i]) - seen) < 1000000000LL, "clock %d", clocks[i]);
	}
	CHECK(memcmp((void *)vdso, "\177ELF", 4) == 0, "no vdso at %lx", vdso);
	subject_pass();
}
