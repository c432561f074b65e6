/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/arch: what this processor can do, and the instructions that are looked for in a task's code. */
#include "arch/arch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <cpuid.h>

/* However it was found out: the processor's own words, in the order of arch_cpu.features. */
static void test_features(void **state)
{
	uint32_t a, b, c, d, want[9] = {0};
	struct arch_cpu cpu;

	arch_cpu_get(&cpu);
	assert_true(__get_cpuid(1, &a, &b, &want[1], &want[0]));
	if (__get_cpuid_count(7, 0, &a, &want[2], &want[3], &want[4]) && a)
		__get_cpuid_count(7, 1, &want[5], &b, &c, &d);
	__get_cpuid(0x80000001, &a, &b, &want[7], &want[6]);
	if (want[1] & 1U << 27)
		__get_cpuid_count(13, 1, &want[8], &b, &c, &d);
	for (size_t i = 0; i < 9; i++)
		assert_int_equal(cpu.features[i], want[i]);
	__get_cpuid(0, &a, &b, &c, &d);
	assert_memory_equal(cpu.vendor, &b, 4);
	assert_memory_equal(cpu.vendor + 4, &d, 4);
	assert_memory_equal(cpu.vendor + 8, &c, 4);
}

static struct arch_gadgets found_in(const char *code, size_t size)
{
	struct arch_gadgets g = {0};

	bool has_both = arch_find_gadgets(&g, code, size, 0x1000);

	assert_int_equal(has_both, g.syscall_ret && g.restorer);
	return g;
}

#define FOUND_IN(code) found_in(code, sizeof(code) - 1)

static void test_gadgets(void **state)
{
	struct arch_gadgets g = FOUND_IN("\x90\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05\x90\x0f\x05\xc3");

	assert_int_equal(g.restorer, 0x1001);
	assert_int_equal(g.syscall_ret, 0x100b);
	g = FOUND_IN("\xb8\x0f\x00\x00\x00\x0f\x05\xc3");
	assert_int_equal(g.restorer, 0x1000);
	assert_int_equal(g.syscall_ret, 0x1005);
}

static void test_no_gadgets(void **state)
{
	struct arch_gadgets g = FOUND_IN("\x05\xc3\x0f\x05");

	assert_int_equal(g.syscall_ret, 0);
	g = FOUND_IN("\x0f\x05\x0f\x05\x05\x05\xc3\xb8\x10\x00\x00\x00\x0f\x05");
	assert_int_equal(g.syscall_ret, 0);
	assert_int_equal(g.restorer, 0);
	g = FOUND_IN("\x00\x00\x00\x0f\x05");
	assert_int_equal(g.restorer, 0);
	g = found_in("", 0);
	assert_int_equal(g.syscall_ret, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_gadgets),
		cmocka_unit_test(test_no_gadgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
