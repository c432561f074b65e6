/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A restore under way: what cpx_restore() and the coordinators that it forks know of it. */
#ifndef CPX_ENGINE_RESTORATION_H
#define CPX_ENGINE_RESTORATION_H

#include "engine/plan.h"
#include "engine/rtree.h"
#include "res/external.h"

struct restoration {
	const struct cpx_restore_options *o;
	struct cpx_result *result;
	struct source source;
	struct image *image;
	struct plan plan;
	struct refusals refusals;
	struct external_rules external;
	struct rtree rt;
	struct lazy lazy;
	struct terminal_state terminal;
	char *output_dir; /* absolute; owned */
};

/* In the coordinator. Leaves the tree stopped in its registers, ready to go; or nothing at all. */
int restoration_build(struct restoration *j, struct err *err);
/* Kills what was built. */
void restoration_abort(struct restoration *j);
/* Lets it run; on failure nothing is left. */
int restoration_let_go(struct restoration *j, struct err *err);

/* Nothing of the user's may be held open by a process that he does not see: all that is left is the channel,
 * as descriptor 3. */
void restoration_close_all(int channel);

#endif
