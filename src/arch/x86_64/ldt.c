/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Entries of a local descriptor table: from what modify_ldt(2) reads (descriptors of the processor)
 * to what it takes (struct user_desc), as arch/x86/include/asm/desc.h, fill_ldt(), does it the
 * other way round.
 */
#include "arch/arch.h"

#include <asm/ldt.h>
#include <string.h>

_Static_assert(sizeof(struct user_desc) == ARCH_LDT_CALL_SIZE, "user_desc");

bool arch_ldt_call(uint64_t descriptor, unsigned index, void *ret)
{
	const uint32_t lo = (uint32_t)descriptor, hi = (uint32_t)(descriptor >> 32);
	const struct user_desc d = {
		.entry_number = index,
		.base_addr = lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000),
		.limit = (lo & 0xffff) | (hi & 0xf0000),
		.seg_32bit = hi >> 22 & 1,
		.contents = hi >> 10 & 3,
		.read_exec_only = !(hi >> 9 & 1),
		.limit_in_pages = hi >> 23 & 1,
		.seg_not_present = !(hi >> 15 & 1),
		.useable = hi >> 20 & 1,
	};

	memcpy(ret, &d, sizeof(d));
	return descriptor != 0;
}
