/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chooses how this processor hashes. What it can do is known to the C library: no cpuid, which takes long in virtual
 * machines. */
#include "base/hash.h"

#include "base/hash_ops.h"

#include <sys/platform/x86.h>

static const struct hash_ops *choose(void)
{
	if (CPU_FEATURE_ACTIVE(AVX512F))
		return &hash_avx512;
	return CPU_FEATURE_ACTIVE(AVX2) ? &hash_avx2 : &hash_plain;
}

XXH128_hash_t hash_128(const void *data, size_t len)
{
	return choose()->hash_128(data, len);
}

XXH64_hash_t hash_64(const void *data, size_t len)
{
	return choose()->hash_64(data, len);
}

XXH_errorcode hash_64_update(XXH3_state_t *state, const void *data, size_t len)
{
	return choose()->update_64(state, data, len);
}
