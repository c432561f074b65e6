/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Mapped files that one task of the tree was found to have, for the others. */
#ifndef CPX_RES_KNOWNFILES_H
#define CPX_RES_KNOWNFILES_H

#include "proc/proc.h"
#include "res/res.h"

/* What names lead from. */
struct known_root {
	uint64_t mount, ino; /* mount 0: this kernel does not tell */
};
struct known_root known_files_root(int root_fd);

/* As proc_vma_resolve(). */
int known_files_resolve(struct dump_ctx *c, const struct known_root *root, int dir, int root_fd, struct proc_vma *v,
			struct stat *ret_st, struct err *err);
void known_files_release(struct dump_ctx *c);

#endif
