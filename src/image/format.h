/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The framing of an image, as docs/image-format.md defines it: header | frames | footer, where a
 * frame is a record, a chunk or the index. Everything is little-endian at fixed offsets. These
 * functions only turn bytes into structs and back and check what one structure alone can tell.
 */
#ifndef CPX_IMAGE_FORMAT_H
#define CPX_IMAGE_FORMAT_H

#include "image/image.h"

#include <endian.h>
#include <string.h>

#define FORMAT_VERSION 1
#define MAGIC_SIZE     8
#define HEADER_SIZE    64
#define FRAME_SIZE     40 /* the fixed part of every frame */
#define EXTENT_SIZE    16
#define FOOTER_SIZE    48
#define INDEX_PREFIX   8 /* hash of the records' frames, before the entries */
#define ENTRY_PREFIX   8 /* offset of the chunk, before a copy of its frame and extents */

#define CHUNK_HEAD_MAX (FRAME_SIZE + EXTENTS_MAX * EXTENT_SIZE)
#define INDEX_MAX      (1UL << 30)
#define METADATA_MAX   (1UL << 30) /* bytes of memory for all unpacked records */
#define RECORDS_MAX    (1UL << 22)

#define RECORD_OPTIONAL 0x80000000u

enum frame_kind {
	FRAME_RECORD = 0x4f434552, /* "RECO" */
	FRAME_CHUNK = 0x4b4e4843,  /* "CHNK" */
	FRAME_INDEX = 0x58444e49,  /* "INDX" */
};

struct format_header {
	uint32_t version;
	uint32_t flags; /* none defined: must be 0 */
	uint8_t id[16], parent_id[16];
};

struct format_record {
	uint32_t type, length;
	uint64_t checksum;
};

struct format_index {
	uint32_t nrecords;
	uint64_t nchunks;
	uint64_t length; /* bytes after the frame */
	uint64_t checksum;
};

struct format_footer {
	uint64_t index_offset, image_size;
	uint8_t id[16];
};

static inline void le32_put(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void le64_put(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t le32_get(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t le64_get(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

void format_put_header(uint8_t buf[HEADER_SIZE], const struct format_header *h);
int format_get_header(const uint8_t *buf, struct format_header *ret, struct err *err);

void format_put_footer(uint8_t buf[FOOTER_SIZE], const struct format_footer *f);
int format_get_footer(const uint8_t buf[FOOTER_SIZE], struct format_footer *ret, struct err *err);

/* 0 or one of enum frame_kind; anything else is not a frame. */
uint32_t format_frame_kind(const uint8_t buf[FRAME_SIZE]);

void format_put_record(uint8_t buf[FRAME_SIZE], const struct format_record *r);
int format_get_record(const uint8_t buf[FRAME_SIZE], struct format_record *ret, struct err *err);

void format_put_index(uint8_t buf[FRAME_SIZE], const struct format_index *x);
int format_get_index(const uint8_t buf[FRAME_SIZE], struct format_index *ret, struct err *err);

/* A chunk's frame and extents. c->offset, c->data_offset and the padding belong together:
 * data_offset = offset + format_chunk_head(n) + padding. */
static inline size_t format_chunk_head(unsigned n)
{
	return FRAME_SIZE + (size_t)n * EXTENT_SIZE;
}
void format_put_chunk(uint8_t *buf, const struct chunk_ref *c);

/* How many extents follow, from the fixed part alone; checks the maximum. */
int format_chunk_extents(const uint8_t buf[FRAME_SIZE], unsigned *ret, struct err *err);

/* buf: the fixed part and the extents. Fills all of *c but ->image, and
 * ->piece, which must have room for n. Checks the checksum and all that the chunk alone can tell: kinds, codecs, lengths, alignment,
 * ascending extents. */
int format_get_chunk(const uint8_t *buf, uint64_t offset, struct chunk_ref *c, struct err *err);

/* Checks what a chunk alone must fulfil (writer and reader). */
int chunk_check(const struct chunk_ref *c, struct err *err);
/* Of its kind, and under a number that can be referred to. */
bool chunk_may_be_early(const struct chunk_ref *c);
const char *codec_name(enum codec codec);

/* chunk.c: codecs. */
size_t chunk_bound(size_t len);
/* Returns the stored length, or 0 if it does not shrink, or -errno. */
ssize_t chunk_compress(enum codec codec, int level, const void *data, size_t len, void *out,
		       size_t size, struct err *err);
int chunk_decompress(const struct chunk_ref *c, const void *stored, void *data, struct err *err);

uint64_t format_hash(const void *data, size_t len);

#endif
