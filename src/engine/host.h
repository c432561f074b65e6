/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This machine, as an image records it and as a restore compares it. */
#ifndef CPX_ENGINE_HOST_H
#define CPX_ENGINE_HOST_H

#include "base/err.h"
#include "cpx.pb-c.h"

/* Fills h (initialised by cpx__host__init) for this machine. All that it points to is malloc'ed, so
 * that cpx__host__free_unpacked() of a message holding it frees it. */
int host_fill(Cpx__Host *h, struct err *err);
/* And for this moment: only once the tree stands, or it might see its clocks go backwards. */
void host_read_clocks(Cpx__Host *h);

/* Refuses what makes it impossible to run here what was dumped on `had`: another architecture or
 * page size, CPU features that are missing here, a larger xsave area, another vdso. */
int host_check(const Cpx__Host *had, struct refusals *refusals, struct err *err);

/* True when `had` was recorded since this kernel booted: its clocks are ours. */
bool host_is_same_boot(const Cpx__Host *had);

#endif
