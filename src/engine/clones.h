/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Many trees of one image.
 *
 *   cpx ── nursery (in the new user and time namespace; has the stock; parent of all coordinators)
 *           ├── coordinator 1: PID 1 of a new PID namespace, parent of the root of clone 1
 *           └── coordinator 2 ...
 */
#ifndef CPX_ENGINE_CLONES_H
#define CPX_ENGINE_CLONES_H

#include "base/err.h"
#include "engine/restoration.h"

/* The rest of a restore with copies, after its checks: into j->result->clone. Foreground: returns when all
 * have ended. Detached: when all run that can. */
int clones_restore(struct restoration *j, struct err *err);

/* clone.c: the coordinator of one clone, a child made by nspace_clone(). Tells how it goes over the channel, with
 * its number in each report; returns an exit status. */
int clone_coordinate(struct restoration *j, unsigned id, int channel);

#endif
