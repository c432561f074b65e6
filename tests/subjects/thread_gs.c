/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FS base (TLS) and GS base of two threads. */
#include "subject.h"

#include <asm/prctl.h>

static long gs_page[2][512];
static unsigned long fs[2];

static unsigned long get_base(int what)
{
	unsigned long base = 0;

	MUST(syscall(SYS_arch_prctl, what, &base));
	return base;
}

static void set(int i)
{
	gs_page[i][1] = 4711 + i;
	fs[i] = get_base(ARCH_GET_FS);
	MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, gs_page[i]));
}

static void check(int i)
{
	long word;

	CHECK(get_base(ARCH_GET_FS) == fs[i], "thread %d", i);
	CHECK(get_base(ARCH_GET_GS) == (unsigned long)gs_page[i], "thread %d", i);
	asm volatile("mov %%gs:8, %0" : "=r"(word));
	CHECK_EQ(word, 4711 + i);
}

static void *thread(void *arg)
{
	set(1);
	subject_wait();
	check(1);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	set(0);
	t = subject_thread(thread, NULL);
	while (!gs_page[1][1])
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	check(0);
	subject_join_thread(t);
	subject_pass();
}
