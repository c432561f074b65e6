/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XXH3. Where the library was built with run-time dispatch (Debian's and Fedora's on x86-64), its
 * functions under their usual names become those that use AVX2 or AVX-512: three times as fast.
 * Include this instead of <xxhash.h>; the results are the same.
 */
#ifndef CPX_BASE_HASH_H
#define CPX_BASE_HASH_H

#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#endif
