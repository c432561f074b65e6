/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From errors and refusals to the struct cpx_result of the public API. */
#ifndef CPX_ENGINE_RESULT_H
#define CPX_ENGINE_RESULT_H

#include "base/err.h"
#include "cpx.h"

/* Ends an API function: sets r->outcome, r->error and r->refusal from its result ret (0 or -errno),
 * err and refusals (either may be NULL), and returns what that function returns: ret when it
 * failed, -ENOTSUP when there are refusals, else 0. */
int result_set(struct cpx_result *r, int ret, const struct err *err,
	       const struct refusals *refusals);

/* A wrong option or argument: CPX_USAGE. Returns -EINVAL. */
int result_usage(struct cpx_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
