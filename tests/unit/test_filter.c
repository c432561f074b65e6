/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tracee/filter.h: against the kernel itself, and what only an evaluation with unknowns can say. */
#include "tracee/filter.h"

#include "base/util.h"

#include <linux/audit.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define LOAD(what)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define RET(answer)	BPF_STMT(BPF_RET | BPF_K, answer)
#define JEQ(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define FILTER(...)	((const struct sock_filter[]){__VA_ARGS__}), \
			sizeof((const struct sock_filter[]){__VA_ARGS__}) / sizeof(struct sock_filter)

static uint32_t worst(const struct sock_filter *f, size_t n, uint64_t nr, unsigned known, uint64_t arg0)
{
	const struct filter_call c = {.nr = nr, .known = known, .arg = {arg0}};

	return filter_worst(f, n, &c);
}

static void test_numbers(void **state)
{
	const struct sock_filter f[] = {
		LOAD(arch), JEQ(AUDIT_ARCH_X86_64, 1, 0), RET(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr), JEQ(7, 0, 1), RET(SECCOMP_RET_ERRNO | 5), RET(SECCOMP_RET_ALLOW),
	};

	assert_int_equal(worst(f, ARRAY_SIZE(f), 7, 0, 0), SECCOMP_RET_ERRNO);
	assert_int_equal(worst(f, ARRAY_SIZE(f), 8, 0, 0), SECCOMP_RET_ALLOW);
}

/* An argument that is not known: both ways; known: its own. */
static void test_arguments(void **state)
{
	const struct sock_filter f[] = {
		LOAD(args[0]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0), JEQ(0x30, 0, 1),
		RET(SECCOMP_RET_TRAP), LOAD(args[1]), JEQ(1, 0, 1), RET(SECCOMP_RET_LOG), RET(SECCOMP_RET_ALLOW),
	};

	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 0, 0), SECCOMP_RET_TRAP);
	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 1, 0x35), SECCOMP_RET_TRAP);
	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 1, 0x45), SECCOMP_RET_LOG);
	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 3, 0x45), SECCOMP_RET_ALLOW);
}

static void test_high_half(void **state)
{
	const struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]) + 4),
		JEQ(0x12, 0, 1), RET(SECCOMP_RET_ERRNO), RET(SECCOMP_RET_ALLOW),
	};

	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 1, 0x1200000000), SECCOMP_RET_ERRNO);
	assert_int_equal(worst(f, ARRAY_SIZE(f), 1, 1, 0x12), SECCOMP_RET_ALLOW);
}

/* Killing is worse than all else although its number is above. */
static void test_order(void **state)
{
	static const uint32_t order[] = {
		SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
		SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE,
		SECCOMP_RET_LOG, SECCOMP_RET_ALLOW,
	};

	for (size_t i = 0; i + 1 < ARRAY_SIZE(order); i++) {
		assert_int_equal(filter_worse(order[i], order[i + 1]), order[i]);
		assert_int_equal(filter_worse(order[i + 1] | 9, order[i]), order[i]);
	}
}

static void test_computed(void **state)
{
	const struct sock_filter computes[] = {LOAD(args[0]), BPF_STMT(BPF_RET | BPF_A, 0)};
	const struct sock_filter divides[] = {
		LOAD(args[0]), BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(nr),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RET(SECCOMP_RET_ALLOW),
	};

	assert_int_equal(worst(computes, 2, 1, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(worst(computes, 2, 1, 1, SECCOMP_RET_ALLOW), SECCOMP_RET_ALLOW);
	assert_int_equal(worst(divides, 5, 1, 0, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(worst(divides, 5, 1, 1, 2), SECCOMP_RET_ALLOW);
	assert_true(filter_can_notify(computes, 2));
	assert_false(filter_can_notify(divides, 5));
	assert_true(filter_can_notify(FILTER(RET(SECCOMP_RET_USER_NOTIF))));
}

/* 2^40 paths: no time for them. */
static void test_many_paths(void **state)
{
	struct sock_filter f[122];

	for (size_t i = 0; i < 120; i += 3) {
		f[i] = (struct sock_filter)LOAD(args[0]);
		f[i + 1] = (struct sock_filter)JEQ((unsigned)i, 1, 0);
		f[i + 2] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1);
	}
	f[120] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	assert_int_equal(worst(f, 121, 1, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(worst(f, 121, 1, 1, 0), SECCOMP_RET_ALLOW);
}

/* ---- programs at random, run by the kernel and by us ---- */

static struct sock_filter random_insn(unsigned *seed, size_t left)
{
	static const uint16_t alu[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_AND, BPF_OR, BPF_XOR};
	static const uint16_t jmp[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
	unsigned k = rand_r(seed) % 4 ? rand_r(seed) % 16 : (unsigned)rand_r(seed), m = rand_r(seed) % 16;
	uint16_t from = rand_r(seed) % 2 ? BPF_X : BPF_K;

	switch (rand_r(seed) % 9) {
	case 0:
		return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16 + rand_r(seed) % 12 * 4);
	case 1:
		return (struct sock_filter)BPF_STMT(BPF_MISC | (rand_r(seed) % 2 ? BPF_TAX : BPF_TXA), 0);
	case 2:
		return (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, k);
	case 3:
		return (struct sock_filter)BPF_STMT(BPF_ALU | (rand_r(seed) % 2 ? BPF_LSH : BPF_RSH) | BPF_K, m);
	case 4:
		return (struct sock_filter)BPF_STMT(rand_r(seed) % 2 ? BPF_ST : BPF_STX, m);
	case 5:
		return (struct sock_filter)BPF_STMT(rand_r(seed) % 2 ? BPF_ALU | BPF_NEG :
					      rand_r(seed) % 2 ? BPF_LD | BPF_MEM : BPF_LDX | BPF_MEM, 0);
	case 6:
		return (struct sock_filter)BPF_JUMP(BPF_JMP | jmp[rand_r(seed) % 4] | from, k,
						    rand_r(seed) % left, rand_r(seed) % left);
	default:
		return (struct sock_filter)BPF_STMT(BPF_ALU | alu[rand_r(seed) % 6] | from, k);
	}
}

/* Answers with an errno out of A's lowest bits, for one call. */
enum { BODY = 60 };

static size_t random_program(unsigned *seed, struct sock_filter *f)
{
	size_t n = 0;

	f[n++] = (struct sock_filter)LOAD(nr);
	f[n++] = (struct sock_filter)JEQ(SYS_getpgid, 1, 0);
	f[n++] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_ST, 0);
	for (size_t i = 0; i < BODY; i++)
		f[n++] = random_insn(seed, MIN((size_t)BODY - i, (size_t)200));
	f[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 7);
	for (unsigned v = 0; v < 8; v++) {
		f[n++] = (struct sock_filter)JEQ(v, 0, 1);
		f[n++] = (struct sock_filter)RET(SECCOMP_RET_ERRNO | (100 + v));
	}
	f[n++] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
	return n;
}

/* The errno that the kernel's run of it gives; 255: it does not take the program. */
static int by_kernel(const struct sock_filter *f, size_t n, const uint64_t arg[6])
{
	struct sock_fprog p = {(unsigned short)n, (struct sock_filter *)f};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
			_exit(255);
		syscall(SYS_getpgid, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
		_exit(errno);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* filter_worst() leaves the data out: each errno's answer is made LOG in turn. */
static bool is_answer(struct sock_filter *f, size_t n, const struct filter_call *c, int answer)
{
	bool ret;

	for (size_t i = 0; i < n; i++)
		if (f[i].code == (BPF_RET | BPF_K) && f[i].k == (SECCOMP_RET_ERRNO | (unsigned)answer)) {
			f[i].k = SECCOMP_RET_LOG;
			ret = filter_worst(f, n, c) == SECCOMP_RET_LOG;
			f[i].k = SECCOMP_RET_ERRNO | (unsigned)answer;
			return ret;
		}
	return false;
}

static void test_like_kernel(void **state)
{
	unsigned seed = 7, tested = 0;

	for (int round = 0; round < 600; round++) {
		struct sock_filter f[BODY + 32];
		size_t n = random_program(&seed, f);
		struct filter_call c = {.nr = SYS_getpgid, .known = FILTER_ALL_KNOWN};
		int answer;

		for (size_t i = 0; i < 6; i++)
			c.arg[i] = rand_r(&seed) % 2 ? (unsigned)rand_r(&seed) * 0x100000003ULL : i;
		answer = by_kernel(f, n, c.arg);
		if (answer == 255)
			continue;
		assert_true(is_answer(f, n, &c, answer));
		tested++;
	}
	assert_in_range(tested, 500, 600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),	  cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_high_half), cmocka_unit_test(test_order),
		cmocka_unit_test(test_computed),  cmocka_unit_test(test_many_paths),
		cmocka_unit_test(test_like_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
