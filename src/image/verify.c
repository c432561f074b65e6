/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks a whole image from end to end: what image_open() checks, then every chunk's bytes, then
 * that the index and the footer fit what went by; of all its layers. Works on every source. */
#include "image/image.h"
#include "base/util.h"

static void cleanup_image(struct image **im)
{
	image_free(*im);
}

static int verify_one(struct image *im, void *buf, struct err *err)
{
	struct chunk_ref c;
	int r = 0;

	while (r == 0)
		r = image_next_chunk(im, &c, buf, err);
	return r == -ENODATA ? 0 : r;
}

int image_verify(struct source *s, struct parent_finder *finder, struct err *err)
{
	__attribute__((cleanup(cleanup_image))) struct image *im = NULL;
	_cleanup_free_ void *buf = NULL;
	int r = image_open(s, finder, &im, err);

	if (r < 0)
		return r;
	buf = malloc(CHUNK_MAX);
	if (!buf)
		return err_nomem(err);
	for (struct image *layer = im; layer && r == 0; layer = layer->parent)
		r = verify_one(layer, buf, err);
	return r;
}
