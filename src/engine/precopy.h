/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pre-copy: most of the memory goes to the image while the tree runs, and only what changed since is
 * copied while it is frozen. How long that takes does not depend on the size, as it does with a twin.
 * It outlives the sessions of one dump, which may be tried several times.
 */
#ifndef CPX_ENGINE_PRECOPY_H
#define CPX_ENGINE_PRECOPY_H

#include "base/pace.h"
#include "image/image.h"
#include "mem/mem.h"

struct session;

struct precopy {
	struct track **track; /* of the address spaces that are watched */
	size_t n, max;
	struct image_writer *writer; /* with early chunks and nothing else; NULL: a session has it */
	struct image_writer_options format;
	struct pace pace; /* the writer's */
	pid_t root;
	bool no_children;
	bool is_begun;
	unsigned rounds;
	uint64_t stopped_ns; /* the longest stop before the freeze */
};
#define PRECOPY_INIT {0}

/* All rounds but the last one, if it is asked for or worth it. What stands against it is no error. */
int precopy_begin(struct session *s, struct err *err);
/* The last round, as near to the freeze as can be. */
int precopy_approach(struct session *s, struct err *err);
/* Frozen: copies aside what changed, and says which mms need no twin (dump_mm.track). */
int precopy_take(struct session *s, struct err *err);
/* Gets the writer of a session that ended before its first record back for the next one, which must be at the
 * same place in memory. */
void precopy_keep(struct precopy *p, struct session *s);
void precopy_release(struct precopy *p);

/* Ends the tracking of a tree that runs, with a stop of a moment. Without it whoever maps memory would wait while the
 * kernel ends it. */
void precopy_end_tracks(struct track **track, size_t n, pid_t root, bool no_children);

/* Is whatever writes to the memory of this task seen by the kernel's tracking? */
bool precopy_suits(const struct session *s, pid_t pid);

/* Is this mapping, which somebody watches, watched by us? The tree must be frozen. (dump_ctx.is_watched) */
bool precopy_watches(const void *precopy, pid_t pid, uint64_t start, uint64_t end);

#endif
