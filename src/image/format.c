/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The on-disk structures: see format.h and docs/image-format.md. Pure functions on bytes; offsets
 * are written out so that the layout can be read off here.
 */
#include "image/format.h"
#include "base/hash.h"
#include "base/util.h"

/* The first byte is not ASCII and line ends are of both kinds, so that text-mode damage shows. */
static const uint8_t header_magic[8] = {0x89, 'C', 'P', 'X', '\r', '\n', 0x1a, '\n'};
static const uint8_t footer_magic[8] = {'C', 'P', 'X', 'E', 'N', 'D', '\r', '\n'};

uint64_t format_hash(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

static int corrupt(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s", what);
}

/* ---- header and footer ---- */

void format_put_header(uint8_t buf[HEADER_SIZE], const struct format_header *h)
{
	memset(buf, 0, HEADER_SIZE);
	memcpy(buf, header_magic, 8);
	le32_put(buf + 8, h->version);
	le32_put(buf + 12, h->flags);
	memcpy(buf + 16, h->id, 16);
	memcpy(buf + 32, h->parent_id, 16);
	le64_put(buf + 56, format_hash(buf, 56));
}

int format_get_header(const uint8_t *buf, struct format_header *ret, struct err *err)
{
	struct format_header h = {.version = le32_get(buf + 8), .flags = le32_get(buf + 12)};

	if (memcmp(buf, header_magic, 8) != 0)
		return err_set(err, -EBADMSG, "not a cpx image");
	if (h.version > FORMAT_VERSION)
		return err_set(err, -EPROTONOSUPPORT,
			       "image has format version %u, newer than this cpx reads (%u)",
			       h.version, FORMAT_VERSION);
	if (le64_get(buf + 56) != format_hash(buf, 56))
		return corrupt(err, "wrong checksum of the header");
	if (h.version == 0 || h.flags != 0 || le64_get(buf + 48) != 0)
		return corrupt(err, "the header has impossible values");
	memcpy(h.id, buf + 16, 16);
	memcpy(h.parent_id, buf + 32, 16);
	*ret = h;
	return 0;
}

void format_put_footer(uint8_t buf[FOOTER_SIZE], const struct format_footer *f)
{
	le64_put(buf, f->index_offset);
	le64_put(buf + 8, f->image_size);
	memcpy(buf + 16, f->id, 16);
	le64_put(buf + 32, format_hash(buf, 32));
	memcpy(buf + 40, footer_magic, 8);
}

int format_get_footer(const uint8_t buf[FOOTER_SIZE], struct format_footer *ret, struct err *err)
{
	if (memcmp(buf + 40, footer_magic, 8) != 0)
		return err_set(err, -EBADMSG,
			       "image is truncated or was never finished: it has no end mark");
	if (le64_get(buf + 32) != format_hash(buf, 32))
		return corrupt(err, "wrong checksum of the footer");
	ret->index_offset = le64_get(buf);
	ret->image_size = le64_get(buf + 8);
	memcpy(ret->id, buf + 16, 16);
	return 0;
}

/* ---- frames ---- */

uint32_t format_frame_kind(const uint8_t buf[FRAME_SIZE])
{
	return le32_get(buf);
}

void format_put_record(uint8_t buf[FRAME_SIZE], const struct format_record *r)
{
	le32_put(buf, FRAME_RECORD);
	le32_put(buf + 4, r->type);
	le32_put(buf + 8, r->length);
	le32_put(buf + 12, 0);
	le64_put(buf + 16, 0);
	le64_put(buf + 24, r->checksum);
	le64_put(buf + 32, format_hash(buf, 32));
}

int format_get_record(const uint8_t buf[FRAME_SIZE], struct format_record *ret, struct err *err)
{
	if (le64_get(buf + 32) != format_hash(buf, 32))
		return corrupt(err, "wrong checksum of a record's header");
	ret->type = le32_get(buf + 4);
	ret->length = le32_get(buf + 8);
	ret->checksum = le64_get(buf + 24);
	if (le32_get(buf + 12) != 0 || le64_get(buf + 16) != 0)
		return corrupt(err, "a record's header has impossible values");
	if (ret->length > RECORD_MAX)
		return corrupt(err, "a record is longer than the maximum");
	return 0;
}

void format_put_index(uint8_t buf[FRAME_SIZE], const struct format_index *x)
{
	le32_put(buf, FRAME_INDEX);
	le32_put(buf + 4, x->nrecords);
	le64_put(buf + 8, x->nchunks);
	le64_put(buf + 16, x->length);
	le64_put(buf + 24, x->checksum);
	le64_put(buf + 32, format_hash(buf, 32));
}

int format_get_index(const uint8_t buf[FRAME_SIZE], struct format_index *ret, struct err *err)
{
	struct format_index x = {
		.nrecords = le32_get(buf + 4),
		.nchunks = le64_get(buf + 8),
		.length = le64_get(buf + 16),
		.checksum = le64_get(buf + 24),
	};

	if (format_frame_kind(buf) != FRAME_INDEX)
		return corrupt(err, "the index is not where it should be");
	if (le64_get(buf + 32) != format_hash(buf, 32))
		return corrupt(err, "wrong checksum of the index's header");
	if (x.length > INDEX_MAX || x.length < INDEX_PREFIX)
		return corrupt(err, "the index has an impossible length");
	if (x.nchunks > x.length / (ENTRY_PREFIX + FRAME_SIZE))
		return corrupt(err, "the index is shorter than its number of chunks");
	*ret = x;
	return 0;
}

/* ---- chunks ---- */

/* Of the extents, seeded with the hash of what comes before the checksum. */
static uint64_t chunk_head_hash(const uint8_t *buf, size_t head)
{
	return XXH3_64bits_withSeed(buf + FRAME_SIZE, head - FRAME_SIZE, format_hash(buf, 32));
}

void format_put_chunk(uint8_t *buf, const struct chunk_ref *c)
{
	size_t head = format_chunk_head(c->n);

	le32_put(buf, FRAME_CHUNK);
	buf[4] = c->kind;
	buf[5] = c->codec;
	buf[6] = c->n & 0xff;
	buf[7] = c->n >> 8;
	le32_put(buf + 8, c->object);
	le32_put(buf + 12, c->data_len);
	le32_put(buf + 16, c->stored_len);
	le32_put(buf + 20, c->data_offset - c->offset - head);
	le64_put(buf + 24, c->checksum);
	for (unsigned i = 0; i < c->n; i++) {
		le64_put(buf + FRAME_SIZE + i * EXTENT_SIZE, c->piece[i].addr);
		le64_put(buf + FRAME_SIZE + i * EXTENT_SIZE + 8, c->piece[i].len);
	}
	le64_put(buf + 32, chunk_head_hash(buf, head));
}

int format_chunk_extents(const uint8_t buf[FRAME_SIZE], unsigned *ret, struct err *err)
{
	unsigned n = buf[6] | buf[7] << 8;

	if (format_frame_kind(buf) != FRAME_CHUNK)
		return corrupt(err, "a chunk is not where it should be");
	if (n == 0 || n > EXTENTS_MAX)
		return corrupt(err, "a chunk has an impossible number of extents");
	*ret = n;
	return 0;
}

static int check_head(const uint8_t *buf, size_t head, struct err *err)
{
	if (le64_get(buf + 32) != chunk_head_hash(buf, head))
		return corrupt(err, "wrong checksum of a chunk's header");
	return 0;
}

/* One behind the other, as long as that makes sense: chunk_check() judges. */
static void get_pieces(const uint8_t *p, struct chunk_ref *c)
{
	uint64_t from = 0;

	for (unsigned i = 0; i < c->n; i++, p += EXTENT_SIZE) {
		c->piece[i] = (struct piece){le64_get(p), le64_get(p + 8), (uint32_t)from};
		if (c->kind == CHUNK_DATA)
			from += c->piece[i].len;
	}
}

int format_get_chunk(const uint8_t *buf, uint64_t offset, struct chunk_ref *c, struct err *err)
{
	unsigned n;
	uint32_t padding = le32_get(buf + 20);
	int r = format_chunk_extents(buf, &n, err);

	if (r < 0)
		return r;
	r = check_head(buf, format_chunk_head(n), err);
	if (r < 0)
		return r;
	if (padding >= CPX_PAGE_SIZE)
		return corrupt(err, "a chunk's padding is a page or longer");
	c->offset = offset;
	c->kind = buf[4];
	c->codec = buf[5];
	c->n = n;
	c->object = le32_get(buf + 8);
	c->data_len = le32_get(buf + 12);
	c->stored_len = le32_get(buf + 16);
	c->checksum = le64_get(buf + 24);
	c->data_offset = offset + format_chunk_head(n) + padding;
	get_pieces(buf + FRAME_SIZE, c);
	return chunk_check(c, err);
}
