/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads the chunks of an open image: any one of a seekable image, or all of them one after the
 * other on any source, ending with the check that the index and the footer fit what went by.
 */
#include "image/reader.h"
#include "base/util.h"

int image_corrupt(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s", what);
}

int image_bad(struct err *err, const char *kind, uint32_t id, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s %u %s", kind, id, what);
}

int image_read_at(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
	int r = s->read_at(s, offset, buf, len, err);

	if (r == -ENODATA && err)
		err->code = -EBADMSG;
	return r == -ENODATA ? -EBADMSG : r;
}

int image_read_head(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	int r;

	if (p->has_head)
		return 0;
	r = image_read_at(im->source, p->pos, p->head, FRAME_SIZE, err);
	if (r < 0)
		return r;
	p->has_head = true;
	return 0;
}

/* ---- any of them ---- */

/* Reads what is stored, into buf or, if it is compressed, by way of scratch. */
static int fetch(const struct chunk_ref *c, uint8_t *scratch, void *buf, struct err *err)
{
	uint8_t *stored = c->codec == CODEC_NONE ? buf : scratch;
	int r = image_read_at(c->image->source, c->data_offset, stored, c->stored_len, err);

	if (r < 0)
		return r;
	if (format_hash(stored, c->stored_len) != c->checksum)
		return image_corrupt(err, "wrong checksum of a chunk");
	return c->codec == CODEC_NONE ? 0 : chunk_decompress(c, stored, buf, err);
}

int image_read_chunk(const struct chunk_ref *c, void *buf, struct err *err)
{
	_cleanup_free_ uint8_t *scratch = NULL;

	if (c->kind != CHUNK_DATA)
		return 0;
	if (c->codec != CODEC_NONE) {
		scratch = malloc(c->stored_len + 1);
		if (!scratch)
			return err_nomem(err);
	}
	return fetch(c, scratch, buf, err);
}

/* ---- part by part ---- */

#define PART_SIZE (128UL << 10)

/* Of the pieces of c, what lies in the bytes [from, from + len). */
static void cut_pieces(const struct chunk_ref *c, uint64_t from, uint64_t len, struct chunk_ref *part)
{
	part->n = 0;
	for (unsigned i = 0; i < c->n; i++) {
		const struct piece *p = &c->piece[i];
		uint64_t start = MAX(from, p->from), end = MIN(from + len, p->from + p->len);

		if (start < end)
			part->piece[part->n++] = (struct piece){p->addr + (start - p->from), end - start,
								(uint32_t)(start - from)};
	}
}

static int read_part(const struct chunk_ref *c, uint64_t from, uint64_t len, XXH3_state_t *hash,
		     void *buf, struct err *err)
{
	int r = image_read_at(c->image->source, c->data_offset + from, buf, len, err);

	if (r == 0)
		XXH3_64bits_update(hash, buf, len);
	return r;
}

static int read_all_parts(const struct chunk_ref *c, XXH3_state_t *hash, void *buf, chunk_taker *take,
			  void *arg, struct err *err)
{
	struct piece piece[EXTENTS_MAX];
	struct chunk_ref part = *c;
	int r = 0;

	part.piece = piece;
	for (uint64_t from = 0; from < c->stored_len && r == 0; from += PART_SIZE) {
		part.data_len = (uint32_t)MIN(PART_SIZE, c->stored_len - from);
		r = read_part(c, from, part.data_len, hash, buf, err);
		cut_pieces(c, from, part.data_len, &part);
		if (r == 0 && part.n)
			r = take(arg, &part, buf, err);
	}
	return r;
}

static int read_raw(const struct chunk_ref *c, void *buf, chunk_taker *take, void *arg, struct err *err)
{
	XXH3_state_t *hash = XXH3_createState();
	int r;

	if (!hash)
		return err_nomem(err);
	XXH3_64bits_reset(hash);
	r = read_all_parts(c, hash, buf, take, arg, err);
	if (r == 0 && XXH3_64bits_digest(hash) != c->checksum)
		r = image_corrupt(err, "wrong checksum of a chunk");
	XXH3_freeState(hash);
	return r;
}

int image_read_parts(const struct chunk_ref *c, void *buf, chunk_taker *take, void *arg, struct err *err)
{
	int r;

	if (c->kind == CHUNK_DATA && c->codec == CODEC_NONE && c->n <= EXTENTS_MAX)
		return read_raw(c, buf, take, arg, err);
	r = image_read_chunk(c, buf, err);
	return r < 0 ? r : take(arg, c, buf, err);
}

/* ---- all of them, in their order ---- */

/* The rest of the frame whose fixed part is in head. */
static int read_chunk_head(struct image *im, struct chunk_ref *c, struct err *err)
{
	struct image_private *p = im->private;
	unsigned n;
	int r = format_chunk_extents(p->head, &n, err);

	if (r < 0)
		return r;
	r = image_read_at(im->source, p->pos + FRAME_SIZE, p->head + FRAME_SIZE, n * EXTENT_SIZE,
			  err);
	if (r < 0)
		return r;
	c->image = im;
	c->piece = p->next_pieces;
	r = format_get_chunk(p->head, p->pos, c, err);
	if (r < 0)
		return r;
	if (p->pos < p->early_end)
		return 0; /* judged when it was opened */
	r = validate_chunk(im, c, &p->last_rank, err);
	if (r < 0 || im->source->is_seekable)
		return r;
	return seen_pages_add(&p->seen, c, err);
}

/* Padding is zeros, so that no byte of an image is free to change. */
static int read_padding(struct image *im, const struct chunk_ref *c, struct err *err)
{
	uint8_t padding[CPX_PAGE_SIZE];
	uint64_t at = c->offset + format_chunk_head(c->n);
	size_t len = c->data_offset - at;
	int r = image_read_at(im->source, at, padding, len, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < len; i++)
		if (padding[i])
			return image_corrupt(err, "padding is not zero");
	return 0;
}

/* Into a buffer that grows to the largest compressed chunk. */
static int fetch_next(struct image *im, const struct chunk_ref *c, void *buf, struct err *err)
{
	struct image_private *p = im->private;

	if (c->codec != CODEC_NONE &&
	    grow(&p->scratch, &p->scratch_max, c->stored_len, sizeof(*p->scratch)) < 0)
		return err_nomem(err);
	return fetch(c, p->scratch, buf, err);
}

/* What the index must say, gathered while the chunks go by. */
static void note_chunk(struct image_private *p, const struct chunk_ref *c)
{
	uint8_t offset[ENTRY_PREFIX];

	le64_put(offset, c->offset);
	if (p->nchunks_read++ == 0) {
		uint8_t hash[INDEX_PREFIX];

		le64_put(hash, XXH3_64bits_digest(p->records_hash));
		XXH3_64bits_update(p->index_hash, hash, sizeof(hash));
		p->index_length = sizeof(hash);
	}
	XXH3_64bits_update(p->index_hash, offset, sizeof(offset));
	XXH3_64bits_update(p->index_hash, p->head, format_chunk_head(c->n));
	p->index_length += ENTRY_PREFIX + format_chunk_head(c->n);
}

/* The index as it is in the file, in pieces. */
static int hash_index(struct image *im, uint64_t offset, uint64_t left, uint64_t *ret,
		      struct err *err)
{
	struct image_private *p = im->private;
	uint8_t piece[16384];

	XXH3_64bits_reset(p->file_hash);
	while (left) {
		size_t n = MIN(left, sizeof(piece));
		int r = image_read_at(im->source, offset, piece, n, err);

		if (r < 0)
			return r;
		XXH3_64bits_update(p->file_hash, piece, n);
		offset += n;
		left -= n;
	}
	*ret = XXH3_64bits_digest(p->file_hash);
	return 0;
}

static int check_index(struct image *im, const struct format_index *x, struct err *err)
{
	struct image_private *p = im->private;
	uint8_t prefix[INDEX_PREFIX];
	uint64_t hash;
	int r;

	if (p->nchunks_read == 0) {
		le64_put(prefix, XXH3_64bits_digest(p->records_hash));
		XXH3_64bits_update(p->index_hash, prefix, sizeof(prefix));
		p->index_length = sizeof(prefix);
	}
	if (x->nchunks != p->nchunks_read || x->nrecords != p->nrecords ||
	    x->length != p->index_length)
		return image_corrupt(err, "the index does not fit what it lists");
	r = hash_index(im, p->pos + FRAME_SIZE, x->length, &hash, err);
	if (r < 0)
		return r;
	if (hash != x->checksum)
		return image_corrupt(err, "wrong checksum of the index");
	if (hash != XXH3_64bits_digest(p->index_hash))
		return image_corrupt(err, "the index does not fit what it lists");
	return 0;
}

/* Index and footer, after the last chunk. */
static int read_end(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	uint8_t foot[FOOTER_SIZE];
	struct format_footer f;
	struct format_index x;
	int r = format_get_index(p->head, &x, err);

	if (r < 0)
		return r;
	r = check_index(im, &x, err);
	if (r == 0)
		r = seen_pages_finish(&p->seen, err);
	if (r < 0)
		return r;
	r = image_read_at(im->source, p->pos + FRAME_SIZE + x.length, foot, sizeof(foot), err);
	if (r < 0)
		return r;
	r = format_get_footer(foot, &f, err);
	if (r < 0)
		return r;
	if (f.index_offset != p->pos || memcmp(f.id, im->id, sizeof(im->id)) != 0 ||
	    f.image_size != p->pos + FRAME_SIZE + x.length + FOOTER_SIZE)
		return image_corrupt(err, "its end belongs to another image");
	p->is_at_end = true;
	return -ENODATA;
}

int image_next_chunk(struct image *im, struct chunk_ref *ret, void *buf, struct err *err)
{
	struct image_private *p = im->private;
	struct chunk_ref c = {0};
	int r;

	if (p->is_at_end)
		return -ENODATA;
	if (p->pos == p->early_end)
		p->pos = p->records_end;
	r = image_read_head(im, err);
	if (r < 0)
		return r;
	if (format_frame_kind(p->head) == FRAME_INDEX)
		return read_end(im, err);
	r = read_chunk_head(im, &c, err);
	if (r < 0)
		return r;
	r = read_padding(im, &c, err);
	if (r < 0)
		return r;
	r = c.kind == CHUNK_DATA ? fetch_next(im, &c, buf, err) : 0;
	if (r < 0)
		return r;
	note_chunk(p, &c);
	p->pos = c.data_offset + c.stored_len;
	p->has_head = false;
	*ret = c;
	return 0;
}
