/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dump --parent: the image that a delta builds on, and which of its address spaces and objects are those
 * of the tree. */
#ifndef CPX_ENGINE_DELTA_H
#define CPX_ENGINE_DELTA_H

#include "engine/output.h"
#include "engine/parents.h"

struct delta {
	struct parents parents;
	struct source source;
	struct image *parent; /* NULL: no delta */
	int fd;
	char path[PATH_MAX]; /* of the parent, as the image records it */
};
#define DELTA_INIT                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* Opens the parent before anything is done to the tree. What makes it no parent is refused. */
int delta_open(struct delta *d, const char *file, const char *output, struct refusals *refusals,
	       struct err *err);
void delta_release(struct delta *d);

struct session;
/* Stages. When the address spaces are known: finds theirs in the parent, or refuses it. */
int delta_match(struct session *s, struct err *err);

#endif
