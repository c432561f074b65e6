/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop that a thread under our control sits in, as position-independent bytes: copied into a
 * page of the task, never run from cpx's own text. It uses no stack (threads share it) and, but for
 * CALL_HASH, no vector registers (they hold the application's values).
 *
 *   r12 lane   r13d turn   rbx current call   ebp calls left   r14 its number
 *
 * System calls keep all registers but rax, rcx and r11.
 */
#include "arch/lane_abi.h"

#define SYS_mmap	 9
#define SYS_munmap	 11
#define SYS_lseek	 8
#define SYS_close	 3
#define SYS_getpid	 39
#define SYS_clone	 56
#define SYS_futex	 202
#define SYS_exit_group	 231
#define SYS_memfd_create 319
#define SYS_clone3	 435
#define ZERO_SCAN	 0xfffffff0
#define LDT_SCAN	 0xfffffff1
#define SKIP		 0xfffffff2
#define DRAIN		 0xfffffff3
#define PUT		 0xfffffff4
#define HASH		 0xfffffff5
#define PARK		 0xfffffff6
#define SYS_read	 0
#define SYS_write	 1
#define SYS_poll	 7
#define OWNER_DIED	 0x40000000
#define ETIMEDOUT	 110

	.section .rodata
	.globl arch_loop_begin, arch_loop_boot, arch_loop_end
	.hidden arch_loop_begin, arch_loop_boot, arch_loop_end
	.balign 16
arch_loop_begin:
	movl	$LANE_ENTERED, LANE_INSIDE(%r12)
.Lnext:
	mov	LANE_TURN(%r12), %r13d
.Lwait:
	mov	%r13d, %eax
	and	$1, %eax
	lea	LANE_PARK(%r12,%rax,8), %rdi
	mov	(%rdi), %edx
	test	%edx, %edx
	jz	.Lrun
	test	$OWNER_DIED, %edx
	jnz	.Lleave
	xor	%esi, %esi		/* FUTEX_WAIT while it is edx, no timeout */
	xor	%r10d, %r10d
	mov	$SYS_futex, %eax
	syscall
	jmp	.Lwait

.Lrun:
	mov	LANE_NCALLS(%r12), %ebp
	lea	LANE_CALL(%r12), %rbx
.Lcall:
	test	%ebp, %ebp
	jz	.Ldone
	mov	CALL_NR(%rbx), %rax
	mov	$ZERO_SCAN, %ecx
	cmp	%rcx, %rax
	je	.Lscan
	inc	%ecx
	cmp	%rcx, %rax
	je	.Lldt
	inc	%ecx
	cmp	%rcx, %rax
	je	.Lskip
	inc	%ecx
	cmp	%rcx, %rax
	je	.Ldrain
	inc	%ecx
	cmp	%rcx, %rax
	je	.Lput
	inc	%ecx
	cmp	%rcx, %rax
	je	.Lhash
	inc	%ecx
	cmp	%rcx, %rax
	je	.Lpark
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+8(%rbx), %rsi
	mov	CALL_ARG+16(%rbx), %rdx
	mov	CALL_ARG+24(%rbx), %r10
	mov	CALL_ARG+32(%rbx), %r8
	mov	CALL_ARG+40(%rbx), %r9
	mov	%rax, %r14
	syscall
	test	%rax, %rax
	jz	.Lmaybe_child
.Lstore:
	mov	%rax, CALL_RET(%rbx)
	add	$CALL_SIZE, %rbx
	dec	%ebp
	jmp	.Lcall

	/*
	 * The child of a clone call goes on in the lane that arg[5] names. It looks at registers
	 * only: when it comes to run, its parent's batch may be long done and the calls be others.
	 */
.Lmaybe_child:
	cmp	$SYS_clone, %r14
	je	.Lchild
	cmp	$SYS_clone3, %r14
	jne	.Lstore
.Lchild:
	test	%r9, %r9
	jz	.Lstore
	mov	%r9, %r12
	jmp	.Lnext

	.macro	say_done
	inc	%r13d
	mov	%r13d, LANE_TURN(%r12)
	mov	%r13d, LANE_DONE(%r12)	/* x86 keeps the order of stores */
	lea	LANE_DONE(%r12), %rdi
	mov	$1, %esi		/* FUTEX_WAKE all */
	mov	$0x7fffffff, %edx
	mov	$SYS_futex, %eax
	syscall
	.endm
.Ldone:
	say_done
	jmp	.Lwait

	/* CALL_PARK: waits for the next turn out there. If that comes, or we die, it has no way back. */
.Lpark:
	say_done
	mov	%r13d, %eax
	and	$1, %eax
	lea	LANE_PARK(%r12,%rax,8), %rdi
	mov	(%rdi), %edx
	test	$OWNER_DIED, %edx
	jnz	.Lleave
	xor	%esi, %esi
	xor	%r10d, %r10d
	mov	$SYS_futex, %eax
	jmp	*LANE_GADGET(%r12)

.Lleave:
	cmpq	$0, LANE_GADGET(%r12)
	je	.Lexit

	/* The host waits until all other threads are out of the pages that it unmaps. Who was about
	 * to come in when cpx died and is not there after a second will hardly come, but may: then
	 * the pages stay. */
	mov	LANE_NPEERS(%r12), %ebp
	lea	LANE_PEERS_AT(%r12), %rbx
.Lpeer:
	test	%ebp, %ebp
	jz	.Lgo
	lea	LANE_INSIDE(%rbx), %rdi
	mov	(%rdi), %edx
	test	%edx, %edx
	jz	.Lpeer_next
	xor	%esi, %esi
	xor	%r10d, %r10d
	cmp	$LANE_COMING, %edx
	jne	.Lpeer_wait
	lea	.Lsecond(%rip), %r10
.Lpeer_wait:
	mov	$SYS_futex, %eax
	syscall
	cmp	$-ETIMEDOUT, %rax
	jne	.Lpeer
	movq	$SYS_getpid, LANE_NR(%r12)
.Lpeer_next:
	add	$LANE_PEER_SIZE, %rbx
	dec	%ebp
	jmp	.Lpeer

.Lgo:
	mov	LANE_NR(%r12), %rax
	mov	LANE_ARG+0(%r12), %rdi
	mov	LANE_ARG+8(%r12), %rsi
	mov	LANE_ARG+16(%r12), %rdx
	mov	LANE_ARG+24(%r12), %r10
	mov	LANE_ARG+32(%r12), %r8
	mov	LANE_ARG+40(%r12), %r9
	jmp	*LANE_GADGET(%r12)
.Lexit:
	xor	%edi, %edi
	mov	$SYS_exit_group, %eax
	syscall

	/* CALL_ZERO_SCAN: rdi page, rsi pages left, rdx bitmap, rcx bit, r8 word of the bitmap */
.Lscan:
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+8(%rbx), %rsi
	mov	CALL_ARG+16(%rbx), %rdx
	xor	%ecx, %ecx
	xor	%r8d, %r8d
.Lscan_page:
	test	%rsi, %rsi
	jz	.Lscan_end
	mov	%rdi, %r10
	mov	$64, %r9d
.Lscan_line:
	mov	(%r10), %rax
	or	8(%r10), %rax
	or	16(%r10), %rax
	or	24(%r10), %rax
	or	32(%r10), %rax
	or	40(%r10), %rax
	or	48(%r10), %rax
	or	56(%r10), %rax
	jnz	.Lscan_next
	add	$64, %r10
	dec	%r9d
	jnz	.Lscan_line
	bts	%rcx, %r8
.Lscan_next:
	add	$4096, %rdi
	dec	%rsi
	inc	%ecx
	cmp	$64, %ecx
	jne	.Lscan_page
	mov	%r8, (%rdx)
	add	$8, %rdx
	xor	%ecx, %ecx
	xor	%r8d, %r8d
	jmp	.Lscan_page
.Lscan_end:
	test	%ecx, %ecx
	jz	.Lscan_ret
	mov	%r8, (%rdx)
.Lscan_ret:
	xor	%eax, %eax
	jmp	.Lstore

	/*
	 * CALL_HASH: rdi iovec, rsi stripes of 64 bytes left, rdx accumulators (xmm0-3), r8 secret,
	 * r9 next stripe, r10 bytes left of the iovec, r11 secret of the stripe, ecx stripes left of
	 * the block of 16, xmm7 the prime (doc/xxhash_spec.md of xxHash, "XXH3 algorithm for long inputs").
	 */
	.macro	hash_lane at, acc
	movdqu	\at(%r9), %xmm4
	movdqu	\at(%r11), %xmm5
	pxor	%xmm4, %xmm5
	pshufd	$0x31, %xmm5, %xmm6
	pmuludq	%xmm5, %xmm6
	pshufd	$0x4e, %xmm4, %xmm4
	paddq	%xmm4, \acc
	paddq	%xmm6, \acc
	.endm
	.macro	hash_stripe
	hash_lane 0, %xmm0
	hash_lane 16, %xmm1
	hash_lane 32, %xmm2
	hash_lane 48, %xmm3
	.endm
	.macro	hash_scramble at, acc
	movdqa	\acc, %xmm4
	psrlq	$47, %xmm4
	pxor	%xmm4, \acc
	movdqu	128+\at(%r8), %xmm5
	pxor	%xmm5, \acc
	movdqa	\acc, %xmm4
	psrlq	$32, %xmm4
	pmuludq	%xmm7, %xmm4
	psllq	$32, %xmm4
	pmuludq	%xmm7, \acc
	paddq	%xmm4, \acc
	.endm
.Lhash:
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+8(%rbx), %rsi
	mov	CALL_ARG+16(%rbx), %rdx
	mov	CALL_ARG+24(%rbx), %r8
	movdqu	0(%rdx), %xmm0
	movdqu	16(%rdx), %xmm1
	movdqu	32(%rdx), %xmm2
	movdqu	48(%rdx), %xmm3
	mov	$0x9e3779b1, %eax
	movd	%eax, %xmm7
	pshufd	$0, %xmm7, %xmm7
	xor	%r10d, %r10d
	dec	%rsi
.Lhash_block:
	mov	%r8, %r11
	mov	$16, %ecx
.Lhash_next:
	test	%rsi, %rsi
	jle	.Lhash_end
	test	%r10, %r10
	jnz	.Lhash_stripe
	mov	0(%rdi), %r9
	mov	8(%rdi), %r10
	add	$16, %rdi
.Lhash_stripe:
	hash_stripe
	add	$64, %r9
	sub	$64, %r10
	add	$8, %r11
	dec	%rsi
	dec	%ecx
	jnz	.Lhash_next
	hash_scramble 0, %xmm0
	hash_scramble 16, %xmm1
	hash_scramble 32, %xmm2
	hash_scramble 48, %xmm3
	jmp	.Lhash_block
.Lhash_end:
	lea	121(%r8), %r11
	hash_stripe
	movdqu	%xmm0, 0(%rdx)
	movdqu	%xmm1, 16(%rdx)
	movdqu	%xmm2, 32(%rdx)
	movdqu	%xmm3, 48(%rdx)
	xor	%eax, %eax
	jmp	.Lstore

	/* CALL_LDT_SCAN: is any selector of the local descriptor table (bit 2) a segment of ours? */
.Lldt:
	mov	$7, %ecx
.Lldt_next:
	lsl	%ecx, %edx
	jz	.Lldt_found
	add	$8, %ecx
	cmp	$0x10007, %ecx
	jne	.Lldt_next
	xor	%eax, %eax
	jmp	.Lstore
.Lldt_found:
	mov	$1, %eax
	jmp	.Lstore

	/* CALL_SKIP */
.Lskip:
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+8(%rbx), %rsi
	xor	%eax, %eax
	cmp	%rsi, (%rdi)
	je	.Lstore
	mov	CALL_ARG+16(%rbx), %rax
	mov	%rax, CALL_RET(%rbx)
	inc	%rax
	sub	%eax, %ebp
	shl	$6, %rax		/* CALL_SIZE */
	add	%rax, %rbx
	jmp	.Lcall

	/* CALL_DRAIN: rsi next byte, rax bytes left of a read, r8 rules, r9d reads left, r15 output */
.Ldrain:
	mov	CALL_ARG+24(%rbx), %r9
	mov	CALL_ARG+40(%rbx), %r15
.Ldrain_read:
	mov	CALL_ARG+32(%rbx), %r8
	dec	%r9d
	js	.Ldrain_end
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+8(%rbx), %rsi
	mov	CALL_ARG+16(%rbx), %rdx
	mov	$SYS_read, %eax
	syscall
	test	%rax, %rax
	js	.Ldrain_end
.Ldrain_byte:
	test	%rax, %rax
	jz	.Ldrain_unended
	movzbl	(%rsi), %edx
	inc	%rsi
	dec	%rax
	movzbl	(%r8,%rdx), %ecx
	test	%ecx, %ecx
	jz	.Ldrain_plain
	cmp	$DRAIN_ENDS, %ecx
	jne	.Ldrain_quoted
	test	%rax, %rax
	jnz	.Ldrain_quoted
	mov	%dl, (%r15)
	inc	%r15
	jmp	.Ldrain_read
.Ldrain_quoted:
	movzbl	DRAIN_QUOTE(%r8), %ecx
	mov	%cl, (%r15)
	inc	%r15
.Ldrain_plain:
	mov	%dl, (%r15)
	inc	%r15
	jmp	.Ldrain_byte
.Ldrain_unended:
	movzbl	DRAIN_WHEN(%r8), %ecx
	test	%ecx, %ecx
	jz	.Ldrain_read
	cmp	$DRAIN_IF_EMPTY, %ecx
	jne	.Ldrain_unended_put
	cmp	CALL_ARG+8(%rbx), %rsi
	jne	.Ldrain_read
.Ldrain_unended_put:
	movzbl	DRAIN_END(%r8), %ecx
	mov	%cl, (%r15)
	inc	%r15
	jmp	.Ldrain_read
.Ldrain_end:
	mov	%r15, %rax
	sub	CALL_ARG+40(%rbx), %rax
	jmp	.Lstore

	/* CALL_PUT: rsi next byte, r15 bytes left, r9d tries left */
.Lput:
	mov	CALL_ARG+8(%rbx), %rdx
	mov	0(%rdx), %rsi
	mov	8(%rdx), %r15
	mov	CALL_ARG+24(%rbx), %r9
.Lput_more:
	test	%r15, %r15
	jle	.Lput_end
	mov	CALL_ARG+0(%rbx), %rdi
	mov	CALL_ARG+16(%rbx), %rdx
	cmp	%r15, %rdx
	cmova	%r15, %rdx
	mov	$SYS_write, %eax
	syscall
	test	%rax, %rax
	jle	.Lput_later
	add	%rax, %rsi
	sub	%rax, %r15
	jmp	.Lput_more
.Lput_later:
	dec	%r9d
	js	.Lput_end
	mov	%rsi, %r10
	xor	%edi, %edi
	xor	%esi, %esi
	mov	$1, %edx		/* ms */
	mov	$SYS_poll, %eax
	syscall
	mov	%r10, %rsi
	jmp	.Lput_more
.Lput_end:
	mov	%r15, %rax
	jmp	.Lstore

	/*
	 * First entry in a task that is being dumped: makes the shared part of the mailbox, maps
	 * it over the reserved lanes and closes the descriptor. If cpx has died before it set the
	 * lane up, the page is gone too small to be touched or has no LANE_IS_READY: leave.
	 *
	 *   esi flags of memfd_create   r12 lanes   rbp their size   r13 syscall; ret
	 *   r14 the whole mapping       r15 its size
	 */
arch_loop_boot:
	lea	.Lname(%rip), %rdi
	mov	$SYS_memfd_create, %eax
	syscall
	test	%eax, %eax
	js	.Lboot_leave
	mov	%eax, %r8d
	mov	%r12, %rdi
	mov	%rbp, %rsi
	mov	$3, %edx		/* PROT_READ | PROT_WRITE */
	mov	$0x11, %r10d		/* MAP_SHARED | MAP_FIXED */
	xor	%r9d, %r9d
	mov	$SYS_mmap, %eax
	syscall
	mov	%rax, %rbx
	mov	%r8d, %edi
	xor	%esi, %esi
	mov	$2, %edx		/* SEEK_END: the size */
	mov	$SYS_lseek, %eax
	syscall
	mov	%rax, %r9
	mov	%r8d, %edi
	mov	$SYS_close, %eax
	syscall
	cmp	%r12, %rbx
	jne	.Lboot_leave
	cmp	%rbp, %r9
	jne	.Lboot_leave
	cmpl	$LANE_IS_READY, LANE_READY(%r12)
	je	arch_loop_begin
.Lboot_leave:
	mov	%r14, %rdi
	mov	%r15, %rsi
	mov	$SYS_munmap, %eax
	jmp	*%r13
.Lname:
	.asciz	"cpx"
	.balign	8
.Lsecond:
	.quad	1, 0
arch_loop_end:
	.section .note.GNU-stack, "", @progbits
