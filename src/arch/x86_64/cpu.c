/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this CPU can do, by cpuid and xgetbv: for refusing a restore where the image's programs may
 * already have chosen code that this CPU lacks.
 */
#include "arch/arch.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#if __has_include(<sys/platform/x86.h>)
#include <sys/platform/x86.h>
#endif

/* The words of arch_cpu.features. */
enum { W_1_EDX, W_1_ECX, W_7_EBX, W_7_ECX, W_7_EDX, W_7_1_EAX, W_EXT_EDX, W_EXT_ECX, W_13_1_EAX };

static const struct {
	uint8_t word, bit;
	const char *name;
} feature_names[] = {
	{W_1_EDX, 15, "cmov"}, {W_1_EDX, 23, "mmx"}, {W_1_EDX, 24, "fxsr"}, {W_1_EDX, 25, "sse"},
	{W_1_EDX, 26, "sse2"}, {W_1_ECX, 0, "sse3"}, {W_1_ECX, 1, "pclmulqdq"},
	{W_1_ECX, 9, "ssse3"}, {W_1_ECX, 12, "fma"}, {W_1_ECX, 13, "cx16"},
	{W_1_ECX, 19, "sse4_1"}, {W_1_ECX, 20, "sse4_2"}, {W_1_ECX, 22, "movbe"},
	{W_1_ECX, 23, "popcnt"}, {W_1_ECX, 25, "aes"}, {W_1_ECX, 26, "xsave"},
	{W_1_ECX, 27, "osxsave"}, {W_1_ECX, 28, "avx"}, {W_1_ECX, 29, "f16c"},
	{W_1_ECX, 30, "rdrand"}, {W_7_EBX, 0, "fsgsbase"}, {W_7_EBX, 3, "bmi1"},
	{W_7_EBX, 4, "hle"}, {W_7_EBX, 5, "avx2"}, {W_7_EBX, 8, "bmi2"}, {W_7_EBX, 9, "erms"},
	{W_7_EBX, 11, "rtm"}, {W_7_EBX, 14, "mpx"}, {W_7_EBX, 16, "avx512f"},
	{W_7_EBX, 17, "avx512dq"}, {W_7_EBX, 18, "rdseed"}, {W_7_EBX, 19, "adx"},
	{W_7_EBX, 21, "avx512ifma"}, {W_7_EBX, 23, "clflushopt"}, {W_7_EBX, 24, "clwb"},
	{W_7_EBX, 26, "avx512pf"}, {W_7_EBX, 27, "avx512er"}, {W_7_EBX, 28, "avx512cd"},
	{W_7_EBX, 29, "sha_ni"}, {W_7_EBX, 30, "avx512bw"}, {W_7_EBX, 31, "avx512vl"},
	{W_7_ECX, 1, "avx512vbmi"}, {W_7_ECX, 3, "pku"}, {W_7_ECX, 4, "ospke"},
	{W_7_ECX, 5, "waitpkg"}, {W_7_ECX, 6, "avx512_vbmi2"}, {W_7_ECX, 8, "gfni"},
	{W_7_ECX, 9, "vaes"}, {W_7_ECX, 10, "vpclmulqdq"}, {W_7_ECX, 11, "avx512_vnni"},
	{W_7_ECX, 12, "avx512_bitalg"}, {W_7_ECX, 14, "avx512_vpopcntdq"},
	{W_7_ECX, 22, "rdpid"}, {W_7_ECX, 27, "movdiri"}, {W_7_ECX, 28, "movdir64b"},
	{W_7_EDX, 8, "avx512_vp2intersect"}, {W_7_EDX, 14, "serialize"},
	{W_7_EDX, 22, "amx_bf16"}, {W_7_EDX, 23, "avx512_fp16"}, {W_7_EDX, 24, "amx_tile"},
	{W_7_EDX, 25, "amx_int8"}, {W_7_1_EAX, 4, "avx_vnni"}, {W_7_1_EAX, 5, "avx512_bf16"},
	{W_7_1_EAX, 23, "avx_ifma"}, {W_EXT_EDX, 27, "rdtscp"}, {W_EXT_ECX, 0, "lahf_lm"},
	{W_EXT_ECX, 5, "abm"}, {W_EXT_ECX, 6, "sse4a"}, {W_EXT_ECX, 8, "3dnowprefetch"},
	{W_EXT_ECX, 11, "xop"}, {W_EXT_ECX, 16, "fma4"}, {W_EXT_ECX, 21, "tbm"},
	{W_13_1_EAX, 0, "xsaveopt"}, {W_13_1_EAX, 1, "xsavec"}, {W_13_1_EAX, 2, "xgetbv1"},
};

static uint64_t read_xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

/* In a virtual machine each cpuid is left to the hypervisor and takes 10 us or more: so none is run twice. The highest
 * leaves are known from leaf 0 and 0x80000000, which __get_cpuid() would ask for again and again. */
struct leaf {
	uint32_t a, b, c, d;
};

static struct leaf get_leaf(uint32_t nr, uint32_t sub, uint32_t max)
{
	struct leaf l = {0};

	if (nr <= max)
		__cpuid_count(nr, sub, l.a, l.b, l.c, l.d);
	return l;
}

/* A leaf of features: the C library has asked for those already. */
#if __has_include(<sys/platform/x86.h>)
#define KNOWN(index, nr, sub, max) get_known(CPUID_INDEX_##index)

static struct leaf get_known(unsigned index)
{
	const unsigned *v = __x86_get_cpuid_feature_leaf(index)->cpuid_array;

	return (struct leaf){v[0], v[1], v[2], v[3]};
}
#else
#define KNOWN(index, nr, sub, max) get_leaf(nr, sub, max)
#endif

static void read_basic(struct arch_cpu *ret, uint32_t max)
{
	struct leaf l = KNOWN(1, 1, 0, max);

	ret->features[W_1_EDX] = l.d;
	ret->features[W_1_ECX] = l.c;
	l = KNOWN(7, 7, 0, max);
	ret->features[W_7_EBX] = l.b;
	ret->features[W_7_ECX] = l.c;
	ret->features[W_7_EDX] = l.d;
	if (l.a > 0)
		ret->features[W_7_1_EAX] = KNOWN(7_ECX_1, 7, 1, max).a;
}

static void read_xsave(struct arch_cpu *ret, uint32_t max)
{
	if (!(ret->features[W_1_ECX] & 1U << 27)) /* osxsave */
		return;
	ret->xcr0 = read_xcr0();
	ret->xsave_size = get_leaf(13, 0, max).b;
	ret->features[W_13_1_EAX] = KNOWN(D_ECX_1, 13, 1, max).a;
}

void arch_cpu_get(struct arch_cpu *ret)
{
	struct leaf base = get_leaf(0, 0, 0), ext;

	memset(ret, 0, sizeof(*ret));
	memcpy(ret->vendor, &base.b, 4);
	memcpy(ret->vendor + 4, &base.d, 4);
	memcpy(ret->vendor + 8, &base.c, 4);
	read_basic(ret, base.a);
	ext = KNOWN(80000001, 0x80000001, 0, get_leaf(0x80000000, 0, 0x80000000).a);
	ret->features[W_EXT_EDX] = ext.d;
	ret->features[W_EXT_ECX] = ext.c;
	read_xsave(ret, base.a);
}

void arch_cpu_model(char *ret, size_t size)
{
	uint32_t max = get_leaf(0x80000000, 0, 0x80000000).a;
	struct leaf brand[3];

	for (unsigned i = 0; i < 3; i++)
		brand[i] = get_leaf(0x80000002 + i, 0, max);
	snprintf(ret, size, "%.*s", (int)sizeof(brand), (const char *)brand);
}

static void append(char *buf, size_t size, const char *name)
{
	size_t n = strlen(buf);

	snprintf(buf + n, size - n, "%s%s", n ? ", " : "", name);
}

bool arch_cpu_lacks(const struct arch_cpu *had, const struct arch_cpu *here, char *buf, size_t size)
{
	char name[48];
	size_t i;

	buf[0] = '\0';
	for (i = 0; i < sizeof(feature_names) / sizeof(feature_names[0]); i++) {
		uint32_t bit = 1U << feature_names[i].bit;
		unsigned w = feature_names[i].word;

		if (had->features[w] & bit && !(here->features[w] & bit))
			append(buf, size, feature_names[i].name);
	}
	if (had->xcr0 & ~here->xcr0) {
		snprintf(name, sizeof(name), "xsave components 0x%llx",
			 (unsigned long long)(had->xcr0 & ~here->xcr0));
		append(buf, size, name);
	}
	return buf[0];
}
