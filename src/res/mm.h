/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The Mm record of an address space. Restoring it is src/engine/layout.c's. */
#ifndef CPX_RES_MM_H
#define CPX_RES_MM_H

#include "res/res.h"

/*
 * Reads the mappings, the memory descriptor's numbers, auxv and the exe file of t, which must be
 * an mm owner, frozen and not yet injected (a mailbox would be among the mappings). Files go to
 * files_add_mapped(), shared content to objects_add(). What cannot be carried is refused by name.
 * The caller sets id and parent_mm.
 *
 * `brk` is asked for by the attribute "mm" of attr_registry[], which fills it into *ret later: the record must live
 * until then at the same address.
 */
int mm_collect(struct dump_ctx *c, struct tracee *t, Cpx__Mm **ret, struct err *err);

#endif
