/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All registers of a thread that makes no system call at all: general, flags, x87, MXCSR, SSE, AVX
 * and AVX-512 as the CPU has them. A helper thread sets the word that ends the spin.
 */
#include "subject.h"

#include <cpuid.h>
#include <immintrin.h>

#define VECTORS 32

struct xstate {
	unsigned char vec[VECTORS][64];
	uint64_t mask[8];
	uint64_t gp[15];
	uint32_t mxcsr;
	uint16_t x87_control;
	double x87[4];
};

static struct xstate in __attribute__((aligned(64))), out __attribute__((aligned(64)));
static volatile int go;

/* Loads the general registers from in.gp, spins until go, and stores them into out.gp. */
void spin_gp(const uint64_t *from, uint64_t *to, volatile int *stop);
asm(".text\n.type spin_gp,@function\nspin_gp:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "push %rsi\npush %rdx\n"
    "mov 0(%rdi),%rax\nmov 8(%rdi),%rbx\nmov 16(%rdi),%rcx\nmov 24(%rdi),%rdx\nmov 32(%rdi),%rsi\n"
    "mov 48(%rdi),%rbp\nmov 56(%rdi),%r8\nmov 64(%rdi),%r9\nmov 72(%rdi),%r10\nmov 80(%rdi),%r11\n"
    "mov 88(%rdi),%r12\nmov 96(%rdi),%r13\nmov 104(%rdi),%r14\nmov 112(%rdi),%r15\nmov 40(%rdi),%rdi\n"
    "movq $0x5a5a5a5a,-64(%rsp)\n" /* the red zone */
    "1: push %rax\nmov 8(%rsp),%rax\ncmpl $0,(%rax)\npop %rax\nje 1b\n"
    "xchg %rax,8(%rsp)\n" /* rax <- to; keeps our rax on the stack */
    "mov %rbx,8(%rax)\nmov %rcx,16(%rax)\nmov %rdx,24(%rax)\nmov %rsi,32(%rax)\nmov %rdi,40(%rax)\n"
    "mov %rbp,48(%rax)\nmov %r8,56(%rax)\nmov %r9,64(%rax)\nmov %r10,72(%rax)\nmov %r11,80(%rax)\n"
    "mov %r12,88(%rax)\nmov %r13,96(%rax)\nmov %r14,104(%rax)\nmov %r15,112(%rax)\n"
    "mov 8(%rsp),%rbx\nmov %rbx,0(%rax)\n"
    "pop %rdx\npop %rsi\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n"
    ".size spin_gp,.-spin_gp\n");

static void *spins_gp(void *arg)
{
	spin_gp(in.gp, out.gp, &go);
	for (int i = 0; i < 15; i++)
		CHECK(out.gp[i] == in.gp[i], "register %d", i);
	return NULL;
}

static void *spins_x87(void *arg)
{
	uint32_t mxcsr = 0x1f80 | 0x6000 | 0x8000; /* round to zero, flush to zero */
	uint16_t control = 0x0e7f, control_after;
	double v[4] = {1.5, 2.5, -3.25, 1e300};
	uint32_t mxcsr_after;

	asm volatile("ldmxcsr %[mxcsr]\nfninit\nfldcw %[cw]\nfldl %[a]\nfldl %[b]\nfldl %[c]\nfldl %[d]\n"
		     "stc\n1: pushfq\ncmpl $0,%[go]\njne 2f\npopfq\njnc 3f\njmp 1b\n"
		     "3: popfq\nud2\n2: popfq\n"
		     "fstpl %[d2]\nfstpl %[c2]\nfstpl %[b2]\nfstpl %[a2]\nfnstcw %[cw2]\nstmxcsr %[mxcsr2]\n"
		     : [a2] "=m"(out.x87[0]), [b2] "=m"(out.x87[1]), [c2] "=m"(out.x87[2]),
		       [d2] "=m"(out.x87[3]), [cw2] "=m"(control_after), [mxcsr2] "=m"(mxcsr_after)
		     : [a] "m"(v[0]), [b] "m"(v[1]), [c] "m"(v[2]), [d] "m"(v[3]), [cw] "m"(control),
		       [mxcsr] "m"(mxcsr), [go] "m"(go)
		     : "memory", "cc");
	CHECK_EQ(control_after, control);
	CHECK_EQ(mxcsr_after, mxcsr);
	CHECK(memcmp(out.x87, v, sizeof(v)) == 0, "x87 stack");
	return NULL;
}

#define ALL16(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define HIGH16(M) M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24) M(25) M(26) M(27) M(28) M(29) M(30) M(31)
#define MASKS(M) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define LOAD_XMM(n) "movups " #n "*64(%0),%%xmm" #n "\n"
#define SAVE_XMM(n) "movups %%xmm" #n "," #n "*64(%1)\n"
#define LOAD_YMM(n) "vmovups " #n "*64(%0),%%ymm" #n "\n"
#define SAVE_YMM(n) "vmovups %%ymm" #n "," #n "*64(%1)\n"
#define LOAD_ZMM(n) "vmovups " #n "*64(%0),%%zmm" #n "\n"
#define SAVE_ZMM(n) "vmovups %%zmm" #n "," #n "*64(%1)\n"
#define LOAD_K(n) "kmovw " #n "*8(%3),%%k" #n "\n"
#define SAVE_K(n) "kmovw %%k" #n "," #n "*8(%4)\n"
#define SPIN "1: cmpl $0,(%2)\npause\nje 1b\n"
#define OPERANDS :: "r"(in.vec), "r"(out.vec), "r"(&go), "r"(in.mask), "r"(out.mask) : "memory", "cc"

static void *spins_vectors(void *arg)
{
	int width = 16, count = 16;

	if (__builtin_cpu_supports("avx512f")) {
		asm volatile(ALL16(LOAD_ZMM) HIGH16(LOAD_ZMM) MASKS(LOAD_K) SPIN ALL16(SAVE_ZMM)
				     HIGH16(SAVE_ZMM) MASKS(SAVE_K) OPERANDS);
		width = 64;
		count = 32;
		for (int i = 1; i < 8; i++)
			CHECK((uint16_t)out.mask[i] == (uint16_t)in.mask[i], "mask register %d", i);
	} else if (__builtin_cpu_supports("avx")) {
		asm volatile(ALL16(LOAD_YMM) SPIN ALL16(SAVE_YMM) OPERANDS);
		width = 32;
	} else {
		asm volatile(ALL16(LOAD_XMM) SPIN ALL16(SAVE_XMM) OPERANDS);
	}
	for (int i = 0; i < count; i++)
		CHECK(memcmp(in.vec[i], out.vec[i], width) == 0, "vector register %d", i);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[3];

	subject_init(argc, argv);
	subject_pattern(&in, sizeof(in), 1);
	t[0] = subject_thread(spins_gp, NULL);
	t[1] = subject_thread(spins_x87, NULL);
	t[2] = subject_thread(spins_vectors, NULL);
	subject_sleep_ms(5);
	subject_ready();
	subject_wait();
	go = 1;
	for (int i = 0; i < 3; i++)
		subject_join_thread(t[i]);
	subject_pass();
}
