/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Several images of one tree, one after the other. */
#ifndef CPX_ENGINE_EVERY_H
#define CPX_ENGINE_EVERY_H

#include "cpx.h"
#include "engine/vigil.h"

/* dump.c: one image, as cpx_dump() makes it. is_series: it is one of several, which need not build on o->parent if they
 * cannot. w: NULL, or the watch that goes on from one to the next. */
int dump_image(const struct cpx_dump_options *o, bool is_series, struct vigil *w, struct cpx_result *r);

#endif
