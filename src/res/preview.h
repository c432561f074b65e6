/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The flags of mappings, read before the freeze. Only /proc/PID/smaps has them, and the kernel
 * walks all page tables for it (30 ms per GiB of 4 KiB pages), longer than a twin takes. So they
 * are read while the tree still runs, used if /proc/PID/maps of the frozen task shows the very same
 * mappings, and compared once more with those of the twin, which inherits them, when the tree runs
 * again.
 */
#ifndef CPX_RES_PREVIEW_H
#define CPX_RES_PREVIEW_H

#include "proc/proc.h"
#include "res/res.h"

/* Looks at the large address spaces of root and its descendants. What cannot be read is left out.
 */
void preview_read(struct dump_ctx *c, pid_t root, bool no_children);

/* The mappings of a frozen task as proc_smaps() gives them, but for the sizes, which may be older.
 * dir: /proc/PID. */
int preview_smaps(struct dump_ctx *c, const struct tracee *t, int dir, struct proc_vmas *ret, struct err *err);

struct preview_copy {
	pid_t pid;
	pid_t copy; /* a twin of it, or itself ... */
	bool runs;  /* ... which runs again: what it has unmapped or moved since is not looked at */
};

/*
 * Whether the flags that were taken from before the freeze are those of the copies. The walk takes as
 * long as the first one did, so it begins in the background; the copies must live until _end(), which
 * returns 0, or -EAGAIN when flags were changed in between. _end() without _begin(), or once more: 0.
 * The array is copied.
 */
int preview_verify_begin(struct dump_ctx *c, const struct preview_copy *copy, size_t n,
			 struct err *err);
int preview_verify_end(struct dump_ctx *c, struct err *err);

void preview_release(struct dump_ctx *c);

#endif
