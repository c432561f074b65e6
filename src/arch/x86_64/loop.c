/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ways into the loop of loop.S.
 */
#include "arch/arch.h"

extern const unsigned char arch_loop_begin[], arch_loop_boot[], arch_loop_end[];

/* Interrupts enabled, nothing else: no trap flag, which would outlive its tracer. */
#define PLAIN_EFLAGS 0x202

const void *arch_loop_code(size_t *ret_size)
{
	*ret_size = arch_loop_end - arch_loop_begin;
	return arch_loop_begin;
}

uint64_t arch_loop_syscall(uint64_t code)
{
	const unsigned char *p = arch_loop_begin;

	while (p[0] != 0x0f || p[1] != 0x05) /* the loop has several */
		p++;
	return code + (p - arch_loop_begin);
}

void arch_enter_loop(struct arch_regs *regs, uint64_t code, uint64_t lane, uint64_t sp)
{
	regs->gp.rip = code;
	regs->gp.r12 = lane;
	regs->gp.rsp = sp;
	regs->gp.eflags = PLAIN_EFLAGS;
	regs->gp.orig_rax = -1UL; /* no restart of whatever was interrupted */
}

void arch_enter_boot(struct arch_regs *regs, const struct arch_boot *b)
{
	arch_enter_loop(regs, b->code + (arch_loop_boot - arch_loop_begin), b->lanes, b->sp);
	regs->gp.rsi = b->memfd_flags;
	regs->gp.rbp = b->lanes_size;
	regs->gp.r13 = b->syscall_ret;
	regs->gp.r14 = b->map;
	regs->gp.r15 = b->map_size;
}

void arch_jump_loop(uint64_t code, uint64_t lane, uint64_t sp)
{
	__asm__ volatile("mov %1, %%r12\n\tmov %2, %%rsp\n\tcld\n\tjmp *%0"
			 :
			 : "a"(code), "d"(lane), "c"(sp)
			 : "r12", "memory");
	__builtin_unreachable();
}
