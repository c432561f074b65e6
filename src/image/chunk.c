/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chunks: what one must fulfil by itself, and the codecs. Thread-safe; no state. The bytes that
 * do not shrink are stored as they are, so stored_len < data_len tells a compressed chunk.
 */
#include "image/format.h"
#include "base/util.h"

#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>
#include <zstd_errors.h>

#define LZ4HC_FROM 3 /* levels from here on use the slow compressor, as the lz4 tool does */

const char *codec_name(enum codec codec)
{
	static const char *const names[] = {"none", "lz4", "zstd"};

	return codec < ARRAY_SIZE(names) ? names[codec] : "unknown";
}

static int bad(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s", what);
}

/* Extents are whole pages, ascend, do not overlap and do not wrap. */
static int check_extents(const struct chunk_ref *c, uint64_t *ret_sum, struct err *err)
{
	uint64_t end = 0, sum = 0;

	for (unsigned i = 0; i < c->n; i++) {
		const struct piece *e = &c->piece[i];

		if (e->len == 0 || (e->addr | e->len) % CPX_PAGE_SIZE)
			return bad(err, "a chunk's extent is not of whole pages");
		if (e->addr < end || __builtin_add_overflow(e->addr, e->len, &end))
			return bad(err, "a chunk's extents overlap");
		sum += e->len; /* cannot wrap: they ascend without overlap */
	}
	*ret_sum = sum;
	return 0;
}

int chunk_check(const struct chunk_ref *c, struct err *err)
{
	uint64_t sum = 0;
	int r;

	if (c->n == 0 || c->n > EXTENTS_MAX)
		return bad(err, "a chunk has an impossible number of extents");
	r = check_extents(c, &sum, err);
	if (r < 0)
		return r;
	if (c->kind == CHUNK_INHERIT || c->kind == CHUNK_ZERO || c->kind == CHUNK_BEFORE) {
		if (c->data_len || c->stored_len || c->codec || c->checksum)
			return bad(err, "a chunk without bytes claims some");
		return 0;
	}
	if (c->kind != CHUNK_DATA)
		return bad(err, "a chunk is of an unknown kind");
	if (c->codec > CODEC_ZSTD)
		return bad(err, "a chunk has an unknown codec");
	if (sum > CHUNK_MAX || c->data_len != sum)
		return bad(err, "a chunk's length does not fit its extents");
	if (c->codec == CODEC_NONE ? c->stored_len != sum : c->stored_len >= sum)
		return bad(err, "a chunk's stored length is impossible");
	return 0;
}

bool chunk_may_be_early(const struct chunk_ref *c)
{
	return c->object != 0 && (c->kind == CHUNK_DATA || c->kind == CHUNK_ZERO);
}

size_t chunk_bound(size_t len)
{
	/* Only results that shrink are kept; a compressor that runs out of room gives up early. */
	return len ? len - 1 : 0;
}

static ssize_t compress_lz4(int level, const void *data, size_t len, void *out, size_t size)
{
	if (level >= LZ4HC_FROM)
		return LZ4_compress_HC(data, out, len, size, level);
	return LZ4_compress_fast(data, out, len, size, level < 0 ? -level : 1);
}

static ssize_t compress_zstd(int level, const void *data, size_t len, void *out, size_t size,
			     struct err *err)
{
	size_t n = ZSTD_compress(out, size, data, len, level);

	if (!ZSTD_isError(n))
		return n;
	if (ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall)
		return 0;
	if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return err_nomem(err);
	return err_set(err, -EIO, "cannot compress: %s", ZSTD_getErrorName(n));
}

ssize_t chunk_compress(enum codec codec, int level, const void *data, size_t len, void *out,
		       size_t size, struct err *err)
{
	switch (codec) {
	case CODEC_NONE:
		return 0;
	case CODEC_LZ4:
		return compress_lz4(level, data, len, out, size);
	case CODEC_ZSTD:
		return compress_zstd(level, data, len, out, size, err);
	}
	return err_set(err, -EINVAL, "unknown codec %d", codec);
}

int chunk_decompress(const struct chunk_ref *c, const void *stored, void *data, struct err *err)
{
	size_t n = 0;

	if (c->codec == CODEC_NONE) {
		memcpy(data, stored, c->stored_len);
		return 0;
	}
	if (c->codec == CODEC_LZ4) {
		int k = LZ4_decompress_safe(stored, data, c->stored_len, c->data_len);

		n = k < 0 ? 0 : k;
	} else if (c->codec == CODEC_ZSTD) {
		n = ZSTD_decompress(data, c->data_len, stored, c->stored_len);
		if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
			return err_nomem(err);
	}
	if (n != c->data_len)
		return bad(err, "a chunk does not decompress to its length");
	return 0;
}
