/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Feeds bytes to the reader as a file and as a stream; parents are found. Every input is tried as it is and a second
 * time with all its checksums made right, so that the code behind the checksums is reached too.
 */
#include "base/util.h"
#include "base/hash.h"
#include "image/format.h"
#include "../golden/sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- making checksums right ---- */

struct fixer {
	uint8_t *data;
	size_t size, pos;
	XXH3_state_t *records;
	uint8_t *entries; /* what the index should hold, as far as it goes */
	size_t entries_len;
	uint64_t nchunks;
	uint32_t nrecords;
};

static size_t left(const struct fixer *f)
{
	return f->size - f->pos;
}

static bool fix_record(struct fixer *f)
{
	uint8_t *p = f->data + f->pos;
	uint32_t len = le32_get(p + 8);

	if (len > left(f) - FRAME_SIZE)
		return false;
	le32_put(p + 12, 0);
	le64_put(p + 16, 0);
	le64_put(p + 24, format_hash(p + FRAME_SIZE, len));
	le64_put(p + 32, format_hash(p, 32));
	XXH3_64bits_update(f->records, p, FRAME_SIZE);
	f->nrecords++;
	f->pos += FRAME_SIZE + len;
	return true;
}

static bool fix_chunk(struct fixer *f)
{
	uint8_t *p = f->data + f->pos;
	unsigned n = p[6] | p[7] << 8;
	uint64_t head = format_chunk_head(n), padding = le32_get(p + 20), stored = le32_get(p + 16);

	if (n > EXTENTS_MAX || head + padding + stored > left(f))
		return false;
	if (stored)
		le64_put(p + 24, format_hash(p + head + padding, stored));
	le64_put(p + 32,
		 XXH3_64bits_withSeed(p + FRAME_SIZE, head - FRAME_SIZE, format_hash(p, 32)));
	le64_put(f->entries + f->entries_len, f->pos);
	memcpy(f->entries + f->entries_len + ENTRY_PREFIX, p, head);
	f->entries_len += ENTRY_PREFIX + head;
	f->nchunks++;
	f->pos += head + padding + stored;
	return true;
}

static void fix_end(struct fixer *f)
{
	uint8_t *p = f->data + f->pos, *foot = f->data + f->size - FOOTER_SIZE;
	size_t room = left(f) - FRAME_SIZE - FOOTER_SIZE;
	struct format_index x = {f->nrecords, f->nchunks, room};
	struct format_footer end = {f->pos, f->size};

	if (left(f) < FRAME_SIZE + INDEX_PREFIX + FOOTER_SIZE)
		return;
	le64_put(p + FRAME_SIZE, XXH3_64bits_digest(f->records));
	memcpy(p + FRAME_SIZE + INDEX_PREFIX, f->entries, MIN(room - INDEX_PREFIX, f->entries_len));
	x.checksum = format_hash(p + FRAME_SIZE, room);
	format_put_index(p, &x);
	memcpy(end.id, f->data + 16, sizeof(end.id));
	format_put_footer(foot, &end);
}

static void fix_header(struct fixer *f)
{
	struct format_header h = {.version = FORMAT_VERSION};

	memcpy(h.id, f->data + 16, sizeof(h.id));
	memcpy(h.parent_id, f->data + 32, sizeof(h.parent_id));
	format_put_header(f->data, &h);
	f->pos = HEADER_SIZE;
}

static void fix(uint8_t *data, size_t size)
{
	/* An entry is longer than its chunk's frame and extents by ENTRY_PREFIX. */
	_cleanup_free_ uint8_t *entries = malloc(size * 2 + 1);
	struct fixer f = {.data = data, .size = size, .entries = entries};
	bool go_on = true;

	if (size < HEADER_SIZE + FRAME_SIZE + FOOTER_SIZE || !entries)
		return;
	f.records = XXH3_createState();
	XXH3_64bits_reset(f.records);
	fix_header(&f);
	while (go_on && left(&f) >= FRAME_SIZE + FOOTER_SIZE) {
		switch (format_frame_kind(data + f.pos)) {
		case FRAME_RECORD:
			go_on = fix_record(&f);
			break;
		case FRAME_CHUNK:
			go_on = fix_chunk(&f);
			break;
		default:
			fix_end(&f);
			go_on = false;
		}
	}
	XXH3_freeState(f.records);
}

/* ---- reading ---- */

/* Memory that cannot be sought in. */
static int read_forwards(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
	if (offset < s->next)
		abort(); /* the reader must never go back in a stream */
	if (offset > s->size || len > s->size - offset)
		return err_set(err, -ENODATA, "end");
	memcpy(buf, (const uint8_t *)s->data + offset, len);
	s->next = offset + len;
	return 0;
}

/* Whatever is looked for: the sample, whose id deltas among the seeds have. */
static int find_base(struct parent_finder *f, const struct image *child, struct source **ret,
		     struct err *err)
{
	static uint8_t *base;
	static size_t size;
	struct image_writer_options o = {.codec = CODEC_NONE, .id = SAMPLE_BASE_ID};
	struct sample s;

	sample_init(&s);
	s.codec_pages = 3;
	if (!base && sample_make(&s, &o, &base, &size, err) < 0)
		abort();
	*ret = malloc(sizeof(**ret));
	source_open_memory(*ret, base, size);
	return 0;
}

static int read_all(struct source *s, uint8_t *buf)
{
	struct parent_finder finder = {find_base};
	struct err err = ERR_INIT;
	struct image *im = NULL;
	struct chunk_ref c;
	int r = image_open(s, &finder, &im, &err);

	if (r < 0)
		return *err.msg && err.code == r ? r : (abort(), r);
	for (size_t i = 0; i < im->nchunks; i++)
		if (image_read_chunk(&im->chunk[i], buf, &err) < 0 && !*err.msg)
			abort();
	do
		r = image_next_chunk(im, &c, buf, &err);
	while (r == 0);
	if (r != -ENODATA && !*err.msg)
		abort();
	image_free(im);
	return r == -ENODATA ? 0 : r;
}

static void try_bytes(const uint8_t *data, size_t size, uint8_t *buf)
{
	struct source file, stream;
	int as_file, as_stream;

	source_open_memory(&file, data, size);
	as_file = read_all(&file, buf);
	source_open_memory(&stream, data, size);
	stream.read_at = read_forwards;
	stream.is_seekable = false;
	as_stream = read_all(&stream, buf);
	source_release(&stream);
	/* What is good as a file is good as a stream. */
	if (as_file == 0 && as_stream != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[CHUNK_MAX]; /* large allocations are slow under sanitizers */
	_cleanup_free_ uint8_t *copy = malloc(size + 1);

	try_bytes(data, size, buf);
	memcpy(copy, data, size);
	fix(copy, size);
	try_bytes(copy, size, buf);
	return 0;
}
