/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XXH3 as the compiler makes it for one kind of vector registers: compiled once for each, see meson.build. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash_ops.h"

static XXH128_hash_t hash_128(const void *data, size_t len)
{
	return XXH3_128bits(data, len);
}

static XXH64_hash_t hash_64(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

static XXH_errorcode update_64(XXH3_state_t *state, const void *data, size_t len)
{
	return XXH3_64bits_update(state, data, len);
}

const struct hash_ops HASH_OPS = {hash_128, hash_64, update_64};
