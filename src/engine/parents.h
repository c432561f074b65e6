/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds the images that deltas build on: where they were when the delta was made, else among the files
 * that the caller names. Only the id counts. */
#ifndef CPX_ENGINE_PARENTS_H
#define CPX_ENGINE_PARENTS_H

#include "cpx.h"
#include "image/image.h"

struct parents {
	struct parent_finder finder;
	const struct cpx_parents *given; /* may be NULL */
	struct parents_known *known;	 /* images that were opened, and their files */
	size_t n, max;
};

/* file: that of the first image; "-": a stream. */
int parents_init(struct parents *p, const char *file, const struct cpx_parents *given,
		 struct err *err);
void parents_release(struct parents *p);
/* What was opened for this image; NULL if it was not. */
const char *parents_path(const struct parents *p, const struct image *im);

#endif
