/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signal frames for rt_sigreturn(2), as arch/x86/kernel/signal_64.c and fpu/signal.c read them.
 */
#include "arch/arch.h"

#include "base/util.h"

#include <cpuid.h>

/* struct rt_sigframe and struct ucontext of the kernel, which differ from libc's. */
struct kernel_stack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};
struct kernel_ucontext {
	uint64_t flags, link;
	struct kernel_stack stack;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
};
struct sigframe {
	uint64_t pretcode;
	struct kernel_ucontext uc;
	uint8_t siginfo[128];
};

#define UC_FP_XSTATE	     1
#define UC_SIGCONTEXT_SS     2
#define UC_STRICT_RESTORE_SS 4
#define SS_INVALID	     0x7fffffff

/* The software bytes of an xsave image in a frame: struct _fpx_sw_bytes. */
#define SW_BYTES_OFFSET 464
#define FP_MAGIC1	0x46505853U
#define FP_MAGIC2	0x46505845U
#define XSTATE_BV	512
#define XSTATE_MIN	576
#define XFEATURE_TILE	(1ULL << 18)
struct sw_bytes {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};

/*
 * What the kernel accepts in a frame of this thread. ptrace gives the largest size of all, but a
 * thread that never asked for AMX tiles has a smaller one, and sigreturn falls back to the
 * legacy state when a frame claims more (fpu/signal.c, check_xstate_in_sigframe). Tiles come last.
 * cpuid takes long in virtual machines: it is left alone where there are no tiles.
 */
static size_t frame_xstate(const struct arch_xstate *x, uint64_t *ret_features)
{
	unsigned eax, ebx, ecx, edx;
	uint64_t enabled, in_use;

	memcpy(&enabled, x->data + SW_BYTES_OFFSET, sizeof(enabled));
	memcpy(&in_use, x->data + XSTATE_BV, sizeof(in_use));
	*ret_features = enabled;
	if (!(enabled & XFEATURE_TILE) || (in_use & XFEATURE_TILE) ||
	    !__get_cpuid_count(13, 18, &eax, &ebx, &ecx, &edx))
		return x->size;
	*ret_features = enabled & ~XFEATURE_TILE;
	return MIN(x->size, (size_t)ebx);
}

size_t arch_frame_size(const struct arch_xstate *x)
{
	return sizeof(struct sigframe) + x->size + sizeof(uint32_t) + 128;
}

static void fill_xstate(uint8_t *dst, const struct arch_xstate *x, size_t size, uint64_t features)
{
	uint32_t magic2 = FP_MAGIC2;
	struct sw_bytes sw = {
		.magic1 = FP_MAGIC1,
		.extended_size = (uint32_t)(size + sizeof(magic2)),
		.xfeatures = features,
		.xstate_size = (uint32_t)size,
	};

	memcpy(dst, x->data, size);
	memcpy(dst + SW_BYTES_OFFSET, &sw, sizeof(sw));
	memcpy(dst + size, &magic2, sizeof(magic2));
}

static void fill_context(struct kernel_ucontext *uc, const struct user_regs_struct *gp)
{
	uc->r8 = gp->r8;
	uc->r9 = gp->r9;
	uc->r10 = gp->r10;
	uc->r11 = gp->r11;
	uc->r12 = gp->r12;
	uc->r13 = gp->r13;
	uc->r14 = gp->r14;
	uc->r15 = gp->r15;
	uc->rdi = gp->rdi;
	uc->rsi = gp->rsi;
	uc->rbp = gp->rbp;
	uc->rbx = gp->rbx;
	uc->rdx = gp->rdx;
	uc->rax = gp->rax;
	uc->rcx = gp->rcx;
	uc->rsp = gp->rsp;
	uc->rip = gp->rip;
	uc->eflags = gp->eflags;
	uc->cs = gp->cs;
	uc->ss = gp->ss;
}

/* sigreturn ends restart_syscall(2), so every restart is made with the original call. */
static void apply_restart(struct arch_regs *regs)
{
	int code = arch_restart_code(regs);

	if (code && code != -EINTR)
		arch_rewind_syscall(regs);
}

static uint64_t xstate_place(uint64_t top, size_t xsize)
{
	return ALIGN_DOWN(top - xsize - sizeof(uint32_t), 64UL);
}

static void fill_frame(struct sigframe *f, const struct arch_gadgets *g, const struct arch_regs *regs,
		       uint64_t sigmask, uint64_t fpstate)
{
	*f = (struct sigframe){.pretcode = g->restorer};
	fill_context(&f->uc, &regs->gp);
	f->uc.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	f->uc.stack.flags = SS_INVALID;
	f->uc.fpstate = fpstate;
	f->uc.sigmask = sigmask;
}

int arch_frame_build(void *buf, size_t size, uint64_t top, const struct arch_gadgets *g,
		     const struct arch_regs *regs, uint64_t sigmask, const struct arch_xstate *x,
		     uint64_t *ret_sp, size_t *ret_len, struct err *err)
{
	uint64_t features, fp, sp;
	size_t xsize = frame_xstate(x, &features);
	struct arch_regs r = *regs;
	struct sigframe f;

	if (x->size < XSTATE_MIN || size < arch_frame_size(x))
		return err_set(err, -EINVAL, "odd size of the extended registers");
	fp = xstate_place(top, xsize);
	/* After the return address is popped the stack pointer is at uc: aligned as by the kernel.
	 */
	sp = ALIGN_DOWN(fp - sizeof(f), 16UL) - 8;
	apply_restart(&r);
	fill_frame(&f, g, &r, sigmask, fp);
	memset(buf, 0, top - sp);
	memcpy(buf, &f, sizeof(f));
	fill_xstate((uint8_t *)buf + (fp - sp), x, xsize, features);
	*ret_sp = sp;
	*ret_len = top - sp;
	return 0;
}

void arch_link_build(uint8_t buf[ARCH_LINK_SIZE], uint64_t top, const struct arch_gadgets *g,
		     const struct arch_regs *regs, uint64_t sigmask, const struct arch_xstate *x)
{
	uint64_t features;
	struct sigframe f;

	_Static_assert(sizeof(f) <= ARCH_LINK_SIZE && ARCH_LINK_SIZE % 16 == 0, "room and alignment");
	fill_frame(&f, g, regs, sigmask, xstate_place(top, frame_xstate(x, &features)));
	memset(buf, 0, ARCH_LINK_SIZE);
	memcpy(buf, &f, sizeof(f));
}
