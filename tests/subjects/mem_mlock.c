/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locked memory: mlock, and lock on fault. */
#include "subject.h"

static void vm_locked(char *buf, size_t size)
{
	subject_line("/proc/self/status", "VmLck:", buf, size);
}

int main(int argc, char **argv)
{
	char before[64], after[64], *a, *b;

	subject_init(argc, argv);
	a = MUST(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	b = MUST(mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	MUST(mlock(a + 4096, 4 * 4096));
	MUST(mlock2(b, 8 * 4096, MLOCK_ONFAULT));
	b[0] = a[0] = 1;
	vm_locked(before, sizeof(before));
	CHECK(strstr(before, "48 kB"), "%s", before);
	subject_ready();
	subject_wait();
	vm_locked(after, sizeof(after));
	CHECK(strcmp(before, after) == 0, "%s, not %s", after, before);
	MUST(munlock(a, 8 * 4096));
	MUST(munlock(b, 8 * 4096));
	vm_locked(after, sizeof(after));
	CHECK(strstr(after, " 0 kB"), "%s", after);
	subject_pass();
}
