/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Registers and extended state of a stopped thread (ptrace(2): NT_PRSTATUS, NT_X86_XSTATE),
 * interrupted system calls, and rseq critical sections.
 *
 * Shadow stacks (NT_X86_SHSTK) are not carried: tracee/ refuses such threads.
 */
#include "arch/arch.h"

#include "base/insist.h"
#include "base/util.h"

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* Codes that never reach user space: include/linux/errno.h. */
#define RESTART_FIRST 512
#define RESTART_LAST  516

int arch_get_regs(pid_t tid, struct arch_regs *ret, struct err *err)
{
	struct user_regs_struct gp;
	struct iovec io = {&gp, sizeof(gp)};

	int r = ptrace_insist(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &io);

	if (r)
		return err_sys(err, r, "cannot read the registers");
	if (io.iov_len != sizeof(gp))
		return err_set(err, -EOPNOTSUPP, "32-bit programs cannot be checkpointed yet");
	ret->gp = gp;
	return 0;
}

int arch_set_regs(pid_t tid, const struct arch_regs *regs, struct err *err)
{
	struct user_regs_struct gp = regs->gp;
	struct iovec io = {&gp, sizeof(gp)};

	int r = ptrace_insist(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &io);

	return r ? err_sys(err, r, "cannot set the registers") : 0;
}

/* More than any CPU has today (AMX needs 11 KiB). */
#define XSTATE_MAX 65536

int arch_get_xstate(pid_t tid, struct arch_xstate **ret, struct err *err)
{
	uint8_t buf[XSTATE_MAX];
	struct iovec io = {buf, sizeof(buf)};
	struct arch_xstate *x;

	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &io))
		return err_sys(err, -errno, "cannot read the extended registers");
	x = malloc(sizeof(*x) + io.iov_len);
	if (!x)
		return err_nomem(err);
	x->size = io.iov_len;
	memcpy(x->data, buf, io.iov_len);
	*ret = x;
	return 0;
}

int arch_set_xstate(pid_t tid, const struct arch_xstate *x, struct err *err)
{
	struct iovec io = {(void *)x->data, x->size};

	if (ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &io))
		return err_sys(err, -errno, "cannot set the extended registers");
	return 0;
}

bool arch_is_native(const struct arch_regs *regs)
{
	return regs->gp.cs == 0x33;
}

uint64_t arch_stack_pointer(const struct arch_regs *regs)
{
	return regs->gp.rsp;
}

uint64_t arch_program_counter(const struct arch_regs *regs)
{
	return regs->gp.rip;
}

uint64_t arch_thread_pointer(const struct arch_regs *regs)
{
	return regs->gp.fs_base;
}

#ifndef NT_X86_SHSTK
#define NT_X86_SHSTK 0x204
#endif

bool arch_has_shadow_stack(pid_t tid)
{
	uint64_t ssp;
	struct iovec io = {&ssp, sizeof(ssp)};

	return ptrace(PTRACE_GETREGSET, tid, NT_X86_SHSTK, &io) == 0;
}

long arch_syscall_nr(const struct arch_regs *regs)
{
	return (long)regs->gp.orig_rax;
}

void arch_set_syscall_nr(struct arch_regs *regs, long nr)
{
	regs->gp.orig_rax = nr;
}

uint64_t arch_syscall_arg(const struct arch_regs *regs, unsigned i)
{
	const struct user_regs_struct *gp = &regs->gp;
	const uint64_t arg[6] = {gp->rdi, gp->rsi, gp->rdx, gp->r10, gp->r8, gp->r9};

	return arg[i];
}

int arch_restart_code(const struct arch_regs *regs)
{
	long code = -(long)regs->gp.rax;

	if (arch_syscall_nr(regs) < 0)
		return 0;
	if (code == EINTR || (code >= RESTART_FIRST && code <= RESTART_LAST && code != 515))
		return (int)-code;
	return 0;
}

void arch_set_restart_code(struct arch_regs *regs, int code)
{
	regs->gp.rax = (uint64_t)(int64_t)code;
}

void arch_set_syscall_arg(struct arch_regs *regs, unsigned i, uint64_t value)
{
	size_t at[] = {
		offsetof(struct user_regs_struct, rdi), offsetof(struct user_regs_struct, rsi),
		offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, r10),
		offsetof(struct user_regs_struct, r8),	offsetof(struct user_regs_struct, r9),
	};

	memcpy((uint8_t *)&regs->gp + at[i], &value, sizeof(value));
}

void arch_rewind_syscall(struct arch_regs *regs)
{
	regs->gp.rax = regs->gp.orig_rax;
	regs->gp.rip -= 2; /* the length of `syscall` */
	regs->gp.orig_rax = -1UL;
}

void arch_finish_syscall(struct arch_regs *regs, int64_t result)
{
	regs->gp.rax = result;
	regs->gp.orig_rax = -1UL;
}

void arch_setup_call(struct arch_regs *regs, const struct arch_gadgets *g, uint64_t sp, uint64_t nr,
		     const uint64_t arg[6])
{
	struct user_regs_struct *gp = &regs->gp;

	gp->rip = g->syscall_ret;
	gp->rsp = sp;
	gp->rax = nr;
	gp->rdi = arg[0];
	gp->rsi = arg[1];
	gp->rdx = arg[2];
	gp->r10 = arg[3];
	gp->r8 = arg[4];
	gp->r9 = arg[5];
	gp->orig_rax = -1UL;
}

int64_t arch_call_result(const struct arch_regs *regs)
{
	return (int64_t)regs->gp.rax;
}

/* struct rseq_cs of include/uapi/linux/rseq.h, and where struct rseq points to it. */
struct critical_section {
	uint32_t version, flags;
	uint64_t start_ip, post_commit_offset, abort_ip;
};
#define RSEQ_CS_OFFSET 8

static bool read_mem(pid_t tid, uint64_t addr, void *buf, size_t size)
{
	struct iovec local = {buf, size}, remote = {(void *)addr, size};

	return process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static bool is_valid_abort(pid_t tid, const struct critical_section *cs, uint32_t signature)
{
	uint32_t found;

	return cs->abort_ip - cs->start_ip >= cs->post_commit_offset &&
	       read_mem(tid, cs->abort_ip - sizeof(found), &found, sizeof(found)) &&
	       found == signature;
}

int arch_rseq_abort(pid_t tid, struct arch_regs *regs, uint64_t rseq_area, uint32_t signature,
		    struct err *err)
{
	struct critical_section cs;
	struct arch_regs moved = *regs;
	uint64_t at = rseq_area + RSEQ_CS_OFFSET, ptr;
	int r;

	if (!read_mem(tid, at, &ptr, sizeof(ptr)) || !ptr || !read_mem(tid, ptr, &cs, sizeof(cs)))
		return 0;
	/* A broken section kills the thread when it goes on, as it would have without us. */
	if (regs->gp.rip - cs.start_ip >= cs.post_commit_offset ||
	    !is_valid_abort(tid, &cs, signature))
		return 0;
	moved.gp.rip = cs.abort_ip;
	/* Registers first: from there on the kernel itself finds that the section is left. */
	r = arch_set_regs(tid, &moved, err);
	if (r)
		return r;
	*regs = moved;
	errno = 0;
	if (ptrace(PTRACE_POKEDATA, tid, at, 0L))
		return err_sys(err, -errno, "cannot clear rseq_cs");
	return 0;
}
