/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens an image with all that it builds on: parents by their ids, from wherever the caller finds
 * them. All share one budget for unpacked records. A chain is finite: no image comes twice.
 */
#include "image/reader.h"
#include "base/util.h"

static bool is_layered(const struct image *im)
{
	for (size_t i = im->nearly; i < im->nstored; i++)
		if (im->stored[i].kind == CHUNK_BEFORE)
			return true;
	return false;
}

static bool was_before(const struct image *im, uint32_t owner)
{
	const Cpx__Mm *mm = image_mm(im, owner);
	const Cpx__Object *o = mm ? NULL : image_object(im, owner);

	return mm ? mm->before_mm : o && o->before_object;
}

static bool needs_parent(const struct image *im)
{
	for (size_t i = im->nearly; i < im->nstored; i++)
		if (im->stored[i].kind == CHUNK_BEFORE && was_before(im, im->stored[i].object))
			return true;
	return false;
}

static int open_parent(struct image *im, struct parent_finder *finder, struct err *err)
{
	struct source *s = NULL;
	int r;

	if (!image_has_parent(im))
		return image_corrupt(err, "it has pages of a parent image, but no parent");
	if (!finder)
		return err_set(err, -ENOLINK, "is a delta: the image that it builds on is needed");
	r = finder->find(finder, im, &s, err);
	if (r < 0)
		return r;
	r = reader_open_parent(s, im, err);
	if (r < 0)
		return r;
	if (memcmp(im->parent->id, im->parent_id, sizeof(im->parent_id)) != 0)
		return err_set(err, -ENOLINK, "the image found for its parent is another one");
	return 0;
}

static int check_chain(const struct image *first, const struct image *last, struct err *err)
{
	size_t n = 1;

	for (const struct image *im = first; im != last; im = im->parent, n++)
		if (memcmp(im->id, last->id, sizeof(im->id)) == 0)
			return image_corrupt(err, "it is among its own parents");
	return n <= LAYERS_MAX ? 0 : err_set(err, -E2BIG, "builds on more than %d images",
					     LAYERS_MAX - 1);
}

static void cleanup_image(struct image **im)
{
	image_free(*im);
}

int image_open(struct source *s, struct parent_finder *finder, struct image **ret, struct err *err)
{
	__attribute__((cleanup(cleanup_image))) struct image *im = NULL;
	int r = image_open_alone(s, &im, err);

	for (struct image *last = im; r == 0 && needs_parent(last); last = last->parent) {
		r = open_parent(last, finder, err);
		if (r == 0)
			r = check_chain(im, last->parent, err);
	}
	if (r == 0 && is_layered(im))
		r = layers_resolve(im, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(im);
	return 0;
}
