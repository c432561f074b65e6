/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What differs between architectures. src/arch/x86_64 implements it.
 */
#ifndef CPX_ARCH_ARCH_H
#define CPX_ARCH_ARCH_H

#include "base/err.h"

#include <elf.h>
#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct arch_regs {
	struct user_regs_struct gp; /* NT_PRSTATUS; orig_rax and the restart codes as at the stop */
};

struct arch_xstate {
	size_t size; /* bytes used in data: NT_X86_XSTATE, standard (not compacted) format */
	uint8_t data[];
};

/* A stopped thread's state by ptrace. */
int arch_get_regs(pid_t tid, struct arch_regs *ret, struct err *err);
int arch_set_regs(pid_t tid, const struct arch_regs *regs, struct err *err);
int arch_get_xstate(pid_t tid, struct arch_xstate **ret, struct err *err);
int arch_set_xstate(pid_t tid, const struct arch_xstate *x, struct err *err);

/* If regs stand in the rseq critical section that the area at rseq_area (in the task) names,
 * moves them to its abort handler and clears rseq_cs there, as the kernel does on preemption
 * (kernel/rseq.c, rseq_ip_fixup). */
int arch_rseq_abort(pid_t tid, struct arch_regs *regs, uint64_t rseq_area, uint32_t signature,
		    struct err *err);

uint64_t arch_stack_pointer(const struct arch_regs *regs);
uint64_t arch_program_counter(const struct arch_regs *regs);
uint64_t arch_thread_pointer(const struct arch_regs *regs); /* of thread-local storage */

/* True when the thread has a shadow stack, on which the `ret`s of remote calls would fault. */
bool arch_has_shadow_stack(pid_t tid);

/* False for a thread in 32-bit code. */
bool arch_is_native(const struct arch_regs *regs);

/* The restart code of an interrupted call (0 when regs are not at one): -ERESTARTSYS (-512) ...
 * -516 or -EINTR. */
int arch_restart_code(const struct arch_regs *regs);
long arch_syscall_nr(const struct arch_regs *regs);
uint64_t arch_syscall_arg(const struct arch_regs *regs, unsigned i);
/* At an interrupted call: the code that the kernel is to act upon when the thread goes on. */
void arch_set_restart_code(struct arch_regs *regs, int code);
void arch_set_syscall_arg(struct arch_regs *regs, unsigned i, uint64_t value);
void arch_set_syscall_nr(struct arch_regs *regs, long nr);
/* Changes regs so that they make the call again with the same arguments. */
void arch_rewind_syscall(struct arch_regs *regs);

/* Changes regs so that the interrupted call has returned `result`. */
void arch_finish_syscall(struct arch_regs *regs, int64_t result);

/* Instructions found in a task's own code. */
struct arch_gadgets {
	uint64_t syscall_ret; /* syscall; ret */
	uint64_t restorer;    /* mov $15, %rax; syscall */
};

/* Looks for those still missing in code that is at addr in the task. True when none is missing. */
bool arch_find_gadgets(struct arch_gadgets *g, const void *code, size_t size, uint64_t addr);

/* Sets regs to run one call at gadget `syscall_ret` with stack pointer sp. */
void arch_setup_call(struct arch_regs *regs, const struct arch_gadgets *g, uint64_t sp, uint64_t nr,
		     const uint64_t arg[6]);
int64_t arch_call_result(const struct arch_regs *regs);

/*
 * Signal frames. Builds, for a stack that ends (exclusive) at `top` (already below the red zone),
 * the frame of rt_sigreturn(2) that restores regs (restart applied by rewinding), mask and xstate
 * and leaves the sigaltstack alone (its ss_flags are invalid, which restore_altstack() in
 * kernel/signal.c ignores). The bytes go to buf (size bytes, at least arch_frame_size(x)); they
 * belong to the remote address *ret_sp, which is the stack pointer with which a `ret` runs
 * g->restorer.
 */
size_t arch_frame_size(const struct arch_xstate *x);
int arch_frame_build(void *buf, size_t size, uint64_t top, const struct arch_gadgets *g,
		     const struct arch_regs *regs, uint64_t sigmask, const struct arch_xstate *x,
		     uint64_t *ret_sp, size_t *ret_len, struct err *err);

/* A frame that comes before one that ends at `top` (arch_frame_build()), right below it: it restores
 * other registers and another mask, and the same extended registers out of the same place. */
#define ARCH_LINK_SIZE 448
void arch_link_build(uint8_t buf[ARCH_LINK_SIZE], uint64_t top, const struct arch_gadgets *g,
		     const struct arch_regs *regs, uint64_t sigmask, const struct arch_xstate *x);

/* The loop that runs batches (mailbox.h), position independent. Entered with the remote address
 * of its lane in the register that arch_enter_loop() sets. */
const void *arch_loop_code(size_t *ret_size);
/* A system call instruction of the loop, when its code is at address `code`. */
uint64_t arch_loop_syscall(uint64_t code);
void arch_enter_loop(struct arch_regs *regs, uint64_t code, uint64_t lane, uint64_t sp);
/* Enters it in a task that has only the code page so far: the code itself makes the shared part
 * (memfd_create, mmap, close) and leaves again unless the lane was made ready meanwhile. */
struct arch_boot {
	uint64_t code; /* remote address of the code */
	uint64_t map;  /* the whole mapping, to be unmapped when leaving ... */
	uint64_t map_size;
	uint64_t lanes; /* ... and the part of it that becomes shared; lane 0 is entered */
	uint64_t lanes_size;
	uint64_t syscall_ret; /* gadget */
	uint64_t sp;	      /* where the frame is */
	unsigned memfd_flags;
};
void arch_enter_boot(struct arch_regs *regs, const struct arch_boot *b);

/* The same from within: the calling process goes into the loop and never returns. */
void arch_jump_loop(uint64_t code, uint64_t lane, uint64_t sp) __attribute__((noreturn));

/* modify_ldt(2), the segment descriptors of an address space; -1 where there is no such call. */
#define ARCH_NR_MODIFY_LDT 154
#define ARCH_LDT_WRITE	   0x11
#define ARCH_LDT_CALL_SIZE 16
/* What it is to be called with to set this descriptor (false: an empty one), ARCH_LDT_CALL_SIZE bytes. */
bool arch_ldt_call(uint64_t descriptor, unsigned index, void *ret);

/* Between two looks of a loop that waits for another processor. */
static inline void arch_relax(void)
{
	__builtin_ia32_pause();
}

/* A program that does nothing: position-independent code, entered at its beginning. */
const void *arch_idle_code(size_t *ret_size);
#define ARCH_ELF_MACHINE EM_X86_64

/* arch_prctl(2): whether cpuid faults, and which parts of the extended state a process has asked for. */
#define ARCH_NR_PRCTL		  158
#define ARCH_PRCTL_GET_CPUID	  0x1011
#define ARCH_PRCTL_SET_CPUID	  0x1012
#define ARCH_PRCTL_GET_XCOMP_PERM 0x1022
#define ARCH_PRCTL_REQ_XCOMP_PERM 0x1023
#define ARCH_XCOMP_TO_ASK	  (1ULL << 18) /* tiles of AMX */

/* As seccomp filters name it. */
#define ARCH_AUDIT AUDIT_ARCH_X86_64

/* CPU identity, for the image header and the plan of a restore. */
struct arch_cpu {
	char vendor[16];
	uint64_t xcr0;	       /* enabled xsave components */
	uint32_t xsave_size;   /* bytes of a standard-format area with all of xcr0 */
	uint32_t features[16]; /* cpuid words as documented in docs/image-format.md */
};
void arch_cpu_get(struct arch_cpu *ret);
/* Its name for people; a separate thing, as it takes a while to ask for. */
void arch_cpu_model(char *ret, size_t size);
/* Names into buf (comma separated) the features that `had` has and `here` lacks. True if any. */
bool arch_cpu_lacks(const struct arch_cpu *had, const struct arch_cpu *here, char *buf, size_t size);

#endif
