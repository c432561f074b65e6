/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stage of a dump: twins, while the tree is frozen. */
#ifndef CPX_ENGINE_TWINS_H
#define CPX_ENGINE_TWINS_H

#include "engine/session.h"

bool dump_mm_needs_twin(const struct dump_mm *mm);
int twins_stage(struct session *s, struct err *err);

#endif
