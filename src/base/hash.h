/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XXH3 with AVX2 or AVX-512 where the processor has it: three times as fast. Where the library was built with
 * run-time dispatch (Debian's and Fedora's shared ones on x86-64), its functions under their usual names become
 * those; else (archives have none) hash.c chooses. Include this instead of <xxhash.h>; the results are the same.
 */
#ifndef CPX_BASE_HASH_H
#define CPX_BASE_HASH_H

#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#ifdef HAVE_HASH_VARIANTS
XXH128_hash_t hash_128(const void *data, size_t len);
XXH64_hash_t hash_64(const void *data, size_t len);
XXH_errorcode hash_64_update(XXH3_state_t *state, const void *data, size_t len);

#define XXH3_128bits(data, len)		     hash_128(data, len)
#define XXH3_64bits(data, len)		     hash_64(data, len)
#define XXH3_64bits_update(state, data, len) hash_64_update(state, data, len)
#endif

#endif
