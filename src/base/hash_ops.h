/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The functions of XXH3 that cpx uses for much data, for each kind of processor. Include <xxhash.h> first. */
#ifndef CPX_BASE_HASH_OPS_H
#define CPX_BASE_HASH_OPS_H

struct hash_ops {
	XXH128_hash_t (*hash_128)(const void *data, size_t len);
	XXH64_hash_t (*hash_64)(const void *data, size_t len);
	XXH_errorcode (*update_64)(XXH3_state_t *state, const void *data, size_t len);
};
extern const struct hash_ops hash_plain, hash_avx2, hash_avx512;

#endif
