/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whether the tree, which runs on, needs the processors more than what writes its memory. */
#ifndef CPX_ENGINE_BEHIND_H
#define CPX_ENGINE_BEHIND_H

#include "engine/session.h"

/* The tree has just been thawed. Without it, nobody will ever step behind it. */
void behind_begin(struct session *s);
/* While pages go out, every now and then. */
void behind_step(struct session *s, struct pageout *p);

#endif
