/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What cpx_info() prints: figures gathered from the chunks, the page for people and the JSON. */
#ifndef CPX_ENGINE_INFO_H
#define CPX_ENGINE_INFO_H

#include "engine/parents.h"

#include <stdio.h>

struct info_totals {
	uint64_t chunks[3];	  /* with bytes, by codec */
	uint64_t bytes, stored;	  /* of memory in all layers; in the file */
	uint64_t inherited, zero; /* bytes of pages left out */
	uint64_t before;	  /* of bytes: in other images; with a parent missing, in it or early */
};

struct info {
	struct image *im;
	struct parents parents;
	struct err missing; /* why a parent could not be found, code 0: nothing is missing */
	uint64_t size; /* of the file, 0 for a stream */
	struct info_totals totals;
	struct mm_bytes *mm_bytes; /* sorted by id; as many as there are mms */
};

struct mm_bytes {
	uint32_t id;
	uint64_t bytes; /* stored of it */
};

/* NULL if the id is not that of an mm. */
struct mm_bytes *info_mm_bytes(const struct info *info, uint32_t id);

int info_print_text(const struct info *info, FILE *out, struct err *err);
/* Pipes and connections to outside the tree: a line each. */
void info_print_outside(const struct image *im, FILE *out);
int info_print_json(const struct info *info, FILE *out, struct err *err);

#endif
