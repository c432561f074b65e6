/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What waits in a pseudo-terminal that the tree has both sides of. */
#ifndef CPX_RES_PTYQUEUE_H
#define CPX_RES_PTYQUEUE_H

#include "res/files.h"

/* Dump. Notes what can be seen at one side of /dev/pts/INDEX. */
int ptyqueue_look(struct dump_ctx *c, const struct fd_probe *p, uint32_t index, bool is_master,
		  struct err *err);
/* When all descriptors are known, of a master: refuses what could not be put back. */
int ptyqueue_complete(struct dump_ctx *c, const Cpx__File *f, struct err *err);
/* Records what waits, if anything does. */
int ptyqueue_borrow(struct dump_ctx *c, Cpx__File *f, struct err *err);
/* Restore, of a master, in a pair that has its modes. slave: does not block. */
int ptyqueue_fill(const Cpx__File *f, int master, int slave, struct err *err);

#endif
