/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Instructions that every program with a libc has: the end of a system call stub, and the
 * restorer that sigaction(2) needs.
 */
#include "arch/arch.h"

#include <string.h>

static bool ends_with(const uint8_t *code, const uint8_t *end, const void *what, size_t len)
{
	return (size_t)(end - code) >= len && !memcmp(end - len, what, len);
}

/* All have a system call in them: end is right behind one. */
static void look_at(struct arch_gadgets *g, const uint8_t *code, size_t at, size_t size, uint64_t addr)
{
	static const uint8_t rax[] = "\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05";
	static const uint8_t eax[] = "\xb8\x0f\x00\x00\x00\x0f\x05";
	const uint8_t *end = code + at;

	if (!g->syscall_ret && at < size && *end == 0xc3)
		g->syscall_ret = addr + at - 2;
	if (!g->restorer && ends_with(code, end, rax, sizeof(rax) - 1))
		g->restorer = addr + at - (sizeof(rax) - 1);
	if (!g->restorer && ends_with(code, end, eax, sizeof(eax) - 1))
		g->restorer = addr + at - (sizeof(eax) - 1);
}

bool arch_find_gadgets(struct arch_gadgets *g, const void *code, size_t size, uint64_t addr)
{
	const uint8_t *begin = code, *at = begin;

	while (!(g->syscall_ret && g->restorer)) {
		at = memchr(at, 0x05, size - (size_t)(at - begin));
		if (!at)
			break;
		at++;
		if (at - begin >= 2 && at[-2] == 0x0f)
			look_at(g, begin, (size_t)(at - begin), size, addr);
	}
	return g->syscall_ret && g->restorer;
}
