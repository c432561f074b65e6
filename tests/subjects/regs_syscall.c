/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Registers across a system call that the dump interrupts: all that the kernel must not change, the
 * red zone, an SSE register, the arguments and the result. */
#include "subject.h"

struct regs {
	uint64_t rbx, rbp, r12, r13, r14, r8, r9, r10, rdi, rsi, rdx, rax, red_zone;
	unsigned char xmm15[16];
};

void read_with_known_registers(int fd, char *buf, struct regs *ret, const unsigned char *xmm);
asm(".text\n.type read_with_known_registers,@function\nread_with_known_registers:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rdx,%r15\nmovups (%rcx),%xmm15\n"
    "mov $0x1001,%rbx\nmov $0x1002,%rbp\nmov $0x1003,%r12\nmov $0x1004,%r13\n"
    "mov $0x1005,%r14\nmov $0x1006,%r8\nmov $0x1007,%r9\nmov $0x1008,%r10\n"
    "movq $0x600d,-120(%rsp)\nmov $1,%edx\nxor %eax,%eax\nsyscall\n"
    "mov %rbx,0(%r15)\nmov %rbp,8(%r15)\nmov %r12,16(%r15)\nmov %r13,24(%r15)\n"
    "mov %r14,32(%r15)\nmov %r8,40(%r15)\nmov %r9,48(%r15)\nmov %r10,56(%r15)\n"
    "mov %rdi,64(%r15)\nmov %rsi,72(%r15)\nmov %rdx,80(%r15)\nmov %rax,88(%r15)\n"
    "mov -120(%rsp),%rax\nmov %rax,96(%r15)\nmovups %xmm15,104(%r15)\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n"
    ".size read_with_known_registers,.-read_with_known_registers\n");

static int fds[2];

static void *reader(void *arg)
{
	static const unsigned char xmm[16] = "fifteen bytes..";
	struct regs got;
	char byte = 0;

	read_with_known_registers(fds[0], &byte, &got, xmm);
	CHECK_EQ(got.rbx, 0x1001);
	CHECK_EQ(got.rbp, 0x1002);
	CHECK_EQ(got.r12, 0x1003);
	CHECK_EQ(got.r13, 0x1004);
	CHECK_EQ(got.r14, 0x1005);
	CHECK_EQ(got.r8, 0x1006);
	CHECK_EQ(got.r9, 0x1007);
	CHECK_EQ(got.r10, 0x1008);
	CHECK_EQ(got.rdi, fds[0]);
	CHECK_EQ(got.rsi, &byte);
	CHECK_EQ(got.rdx, 1);
	CHECK_EQ(got.rax, 1);
	CHECK_EQ(got.red_zone, 0x600d);
	CHECK(memcmp(got.xmm15, xmm, 16) == 0, "xmm15");
	CHECK_EQ(byte, 'x');
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	MUST(pipe(fds));
	t = subject_thread(reader, NULL);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	MUST(write(fds[1], "x", 1));
	subject_join_thread(t);
	subject_pass();
}
