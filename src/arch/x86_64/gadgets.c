/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instructions that every program with a libc has: the end of a system call stub, and the
 * restorer that sigaction(2) needs.
 */
#include "arch/arch.h"

#include <string.h>

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

static void find(const uint8_t *code, size_t size, uint64_t addr, const uint8_t *what, size_t len,
		 uint64_t *found)
{
	const uint8_t *at = *found ? NULL : memmem(code, size, what, len);

	if (at)
		*found = addr + (uint64_t)(at - code);
}

bool arch_find_gadgets(struct arch_gadgets *g, const void *code, size_t size, uint64_t addr)
{
	find(code, size, addr, BYTES("\x0f\x05\xc3"), &g->syscall_ret);
	find(code, size, addr, BYTES("\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"), &g->restorer);
	find(code, size, addr, BYTES("\xb8\x0f\x00\x00\x00\x0f\x05"), &g->restorer);
	return g->syscall_ret && g->restorer;
}
