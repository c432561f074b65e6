/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protections hold: each forbidden access faults after the restore as it did before. */
#include "subject.h"

#include <setjmp.h>

static sigjmp_buf env;
static volatile int fault_code;

static void fault(int signo, siginfo_t *si, void *context)
{
	fault_code = si->si_code;
	siglongjmp(env, 1);
}

static bool can_read(volatile char *p)
{
	if (sigsetjmp(env, 1))
		return false;
	(void)*p;
	return true;
}

static bool can_write(volatile char *p)
{
	if (sigsetjmp(env, 1))
		return false;
	*p = *p;
	return true;
}

static void check(char *area)
{
	CHECK(!can_read(area), "PROT_NONE");
	CHECK(can_read(area + 4096) && !can_write(area + 4096), "PROT_READ");
	CHECK(can_write(area + 2 * 4096), "PROT_WRITE");
	CHECK(!can_read(area + 3 * 4096), "a guard page");
	CHECK_EQ(fault_code, SEGV_ACCERR);
	CHECK(!can_write((char *)0x10), "page 0");
	CHECK_EQ(fault_code, SEGV_MAPERR);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
	char *area;

	subject_init(argc, argv);
	sigaction(SIGSEGV, &sa, NULL);
	area = MUST(mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	subject_pattern(area, 4 * 4096, 5);
	MUST(mprotect(area, 4096, PROT_NONE));
	MUST(mprotect(area + 4096, 4096, PROT_READ));
	MUST(mprotect(area + 3 * 4096, 4096, PROT_NONE));
	check(area);
	subject_ready();
	subject_wait();
	check(area);
	MUST(mprotect(area, 4 * 4096, PROT_READ));
	CHECK(subject_is_pattern(area, 4 * 4096, 5), "content under PROT_NONE");
	subject_pass();
}
