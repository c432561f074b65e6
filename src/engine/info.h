/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What cpx_info() prints: figures gathered from the chunks, the page for people and the JSON. */
#ifndef CPX_ENGINE_INFO_H
#define CPX_ENGINE_INFO_H

#include "image/image.h"

#include <stdio.h>

struct info_totals {
	uint64_t chunks[3];	/* with bytes, by codec */
	uint64_t bytes, stored; /* of memory in them; in the file */
	uint64_t inherited, zero; /* bytes of pages left out */
};

struct info {
	struct image *im;
	uint64_t size; /* of the file, 0 for a stream */
	struct info_totals totals;
	uint64_t *mm_bytes; /* by index of im->mm */
};

int info_print_text(const struct info *info, FILE *out, struct err *err);
int info_print_json(const struct info *info, FILE *out, struct err *err);

#endif
