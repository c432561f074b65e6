/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ghostdir.c: deleted directories. */
#ifndef CPX_RES_GHOSTDIR_H
#define CPX_RES_GHOSTDIR_H

#include "res/files.h"

#include <limits.h>

/* path: without " (deleted)". *ret is set on failure, too. */
int ghostdir_dump(const char *path, const struct stat *st, Cpx__Directory **ret, struct err *err);
/* Restore. Why it cannot be made again, NULL: it can. */
const char *ghostdir_why_not(const Cpx__Directory *d, char path[PATH_MAX], struct err *err);
/* Our descriptor of it, made now if needed; borrowed. */
int ghostdir_fd(struct restore_ctx *c, const Cpx__Directory *d, struct err *err);
void ghostdirs_release(struct restore_ctx *c);

#endif
