/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Segment descriptors of modify_ldt(2): data reached through them, a child's others than its parent's. */
#include "subject.h"

#include <asm/ldt.h>

enum { SMALL = 3, LARGE = 700 };

static uint64_t before[8192], after[8192];
static char *low;

static void set(unsigned index, const void *base, unsigned limit)
{
	struct user_desc d = {
		.entry_number = index, .base_addr = (unsigned)(uintptr_t)base, .limit = limit, .seg_32bit = 1, .useable = 1,
	};

	MUST(syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)));
}

/* A byte through a segment register. */
static char through(unsigned index, unsigned long at)
{
	unsigned short selector = index << 3 | 7, saved;
	char c;

	__asm__ volatile("mov %%es, %1\n\tmov %2, %%es\n\tmovb %%es:(%3), %0\n\tmov %1, %%es"
			 : "=q"(c), "=&r"(saved)
			 : "r"(selector), "r"(at)
			 : "memory");
	return c;
}

static void read_all(uint64_t *table)
{
	CHECK_EQ((int)syscall(SYS_modify_ldt, 0, table, sizeof(before)), sizeof(before));
}

static void check(void)
{
	read_all(after);
	CHECK(!memcmp(before, after, sizeof(before)));
}

static int child(void *arg)
{
	set(SMALL, low + 4096, 0xffff);
	read_all(before);
	subject_child_ready();
	subject_wait();
	check();
	return 0;
}

int main(int argc, char **argv)
{
	struct user_desc odd = {.entry_number = 5, .base_addr = 0x89abcdef, .limit = 0x98765, .limit_in_pages = 1,
				.read_exec_only = 1, .seg_not_present = 1, .contents = MODIFY_LDT_CONTENTS_STACK};
	pid_t pid;

	subject_init(argc, argv);
	if (syscall(SYS_modify_ldt, 0, before, sizeof(before)) < 0)
		subject_skip("no modify_ldt here");
	low = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
	set(SMALL, low, 0xfff);
	set(LARGE, low, 0xfffff);
	MUST(syscall(SYS_modify_ldt, 0x11, &odd, sizeof(odd)));
	pid = subject_fork(child, NULL);
	read_all(before);
	subject_ready();
	subject_wait();
	check();
	/* In 64-bit mode only fs and gs have a base, but every selector must still be valid. */
	CHECK_EQ(through(SMALL, (unsigned long)low), 0);
	subject_join(pid);
	subject_pass();
}
