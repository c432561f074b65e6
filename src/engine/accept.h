/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPX_ENGINE_ACCEPT_H
#define CPX_ENGINE_ACCEPT_H

#include "base/err.h"
#include "cpx.h"
#include "res/external.h"

/* *ret is to be released on failure, too; it borrows the paths. */
int accept_externals(const struct cpx_external_pipe *pipe, size_t n, bool unix_too,
		     struct external_rules *ret, struct err *err);
void accept_release(struct external_rules *rules);

#endif
