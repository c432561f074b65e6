/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What layers.c asks of one image of a chain (spans.c): which of its chunks hold which addresses.
 * Nothing here follows a reference to another owner or image.
 */
#ifndef CPX_IMAGE_LAYERS_H
#define CPX_IMAGE_LAYERS_H

#include "image/reader.h"

/* Where a stretch of memory is stored. */
struct span {
	uint64_t addr, len;
	const struct chunk_ref *c;
	uint32_t from; /* as in struct piece */
	uint32_t layer;
};

struct spans {
	struct span *s;
	size_t n, max;
};

struct layer {
	const struct image *im;
	struct layer_owner *owner; /* of the chunks after the records, by id */
	size_t nowners;
	struct layer_early *early; /* by id, then as in the file */
};

int layer_init(struct layer *l, const struct image *im, struct err *err);
void layer_release(struct layer *l);
/* Of chunks of all kinds after the records, by address. Good until layer_release(). */
int layer_spans(struct layer *l, uint32_t owner, const struct spans **ret, struct err *err);
/* Of early chunks, in the order of the file: a later one replaces what earlier ones have. The caller
 * frees ret->s. */
int layer_early(const struct layer *l, uint32_t id, struct spans *ret, struct err *err);

int spans_add(struct spans *l, const struct span *s);
void spans_sort(struct spans *l); /* by address */

#endif
