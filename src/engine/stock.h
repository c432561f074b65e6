/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stock: the memory of a tree's root, filled once, in the process that all clones are forked
 * from, and at the addresses where the root will have it. Each clone's coordinator inherits it, and
 * its root from that: the pages are shared copy-on-write, as of a parent and its child.
 */
#ifndef CPX_ENGINE_STOCK_H
#define CPX_ENGINE_STOCK_H

#include "engine/rtree.h"

struct stock {
	struct page_ranges range; /* mapped here as in the root, ascending */
	struct page_ranges pages; /* populated in it */
	struct image view[2];	  /* the image, its chunks of the root's mm cut down to what is outside; inside */
	struct piece *pieces[2];
};

/* Maps and fills what of the root's anonymous memory is free in this process. The rest is left to each clone.
 * rt->image is the whole image, of a seekable source; s is zeroed. Nothing is to be undone on failure but
 * by stock_release(). */
int stock_fill(struct rtree *rt, struct stock *s, struct err *err);
/* Unmaps it in the calling process. */
void stock_drop(const struct stock *s);
void stock_release(struct stock *s);

#endif
