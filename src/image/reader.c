/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opens images: framing, checksums, records, index. Owns the unpacked records and the list of
 * chunks. Every byte is hostile: lengths are checked against their maxima and, where the source
 * knows its size, against that, before anything is allocated; unpacked records draw on a budget.
 */
#include "image/reader.h"
#include "base/util.h"

#define SLOT 16 /* in front of every allocation: its size; keeps malloc's alignment */

/* ---- memory of unpacked records ---- */

static void *budget_alloc(void *data, size_t size)
{
	struct image_private *p = data;
	uint8_t *slot;

	if (size > p->allocated_max - p->allocated)
		return NULL;
	slot = malloc(size + SLOT);
	if (!slot)
		return NULL;
	memcpy(slot, &size, sizeof(size));
	p->allocated += size;
	return slot + SLOT;
}

static void budget_free(void *data, void *ptr)
{
	struct image_private *p = data;
	size_t size;

	if (!ptr)
		return;
	memcpy(&size, (uint8_t *)ptr - SLOT, sizeof(size));
	p->allocated -= size;
	free((uint8_t *)ptr - SLOT);
}

/* ---- the kinds of records ---- */

struct record_kind {
	enum record_type type;
	const char *name;
	const ProtobufCMessageDescriptor *descriptor;
	size_t array, count; /* offsets in struct image */
};

#define KIND(t, name, desc, field)                                                                 \
	{                                                                                          \
		t, name, &desc, offsetof(struct image, field), offsetof(struct image, n##field##s) \
	}

static const struct record_kind record_kinds[] = {
	KIND(RECORD_TASK, "Task", cpx__task__descriptor, task),
	KIND(RECORD_MM, "Mm", cpx__mm__descriptor, mm),
	KIND(RECORD_OBJECT, "Object", cpx__object__descriptor, object),
	KIND(RECORD_FD_TABLE, "FdTable", cpx__fd_table__descriptor, fd_table),
	KIND(RECORD_FILE, "File", cpx__file__descriptor, file),
};

static const struct record_kind *find_kind(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(record_kinds); i++)
		if (record_kinds[i].type == type)
			return &record_kinds[i];
	return NULL;
}

static void ***array_of(struct image *im, const struct record_kind *k)
{
	return (void ***)((uint8_t *)im + k->array);
}

static size_t *count_of(struct image *im, const struct record_kind *k)
{
	return (size_t *)((uint8_t *)im + k->count);
}

/* Powers of two only, so that the capacity follows from the count. */
static int append_message(struct image *im, const struct record_kind *k, void *msg, struct err *err)
{
	size_t *n = count_of(im, k);
	void **array = *array_of(im, k);

	if ((*n & (*n - 1)) == 0) {
		array = realloc(array, (*n ? *n * 2 : 1) * sizeof(*array));
		if (!array)
			return err_nomem(err);
		*array_of(im, k) = array;
	}
	array[(*n)++] = msg;
	return 0;
}

/* ---- records ---- */

static int unpack(struct image *im, const ProtobufCMessageDescriptor *d, const uint8_t *payload,
		  size_t len, ProtobufCMessage **ret, struct err *err)
{
	struct image_private *p = im->private;
	ProtobufCMessage *msg = protobuf_c_message_unpack(d, &p->allocator, len, payload);
	int r;

	if (!msg)
		return err_set(err, -EBADMSG,
			       "image is corrupt: a record is not a %s, or needs too much memory",
			       d->short_name);
	r = rules_check(msg, err);
	if (r < 0) {
		protobuf_c_message_free_unpacked(msg, &p->allocator);
		return r;
	}
	*ret = msg;
	return 0;
}

static int add_record(struct image *im, const struct format_record *rec, const uint8_t *payload,
		      struct err *err)
{
	const struct record_kind *k = find_kind(rec->type);
	ProtobufCMessage *msg = NULL;
	int r;

	if ((rec->type == RECORD_IMAGE) != (im->private->nrecords == 1))
		return image_corrupt(err,
				     "the Image record is not the first and only one of its kind");
	if (rec->type != RECORD_IMAGE && !k)
		return rec->type & RECORD_OPTIONAL
			       ? 0
			       : err_set(err, -EPROTONOSUPPORT,
					 "image needs a newer cpx: it has a record of type %u",
					 rec->type);
	r = unpack(im, k ? k->descriptor : &cpx__image__descriptor, payload, rec->length, &msg,
		   err);
	if (r < 0)
		return r;
	if (!k) {
		im->info = (Cpx__Image *)msg;
		return 0;
	}
	r = append_message(im, k, msg, err);
	if (r < 0)
		protobuf_c_message_free_unpacked(msg, &im->private->allocator);
	return r;
}

/* Reads len bytes; on sources of known size nothing is allocated for what cannot be there. */
static int read_block(struct source *s, uint64_t offset, size_t len, uint8_t **ret, struct err *err)
{
	_cleanup_free_ uint8_t *buf = NULL;
	int r;

	if (s->is_seekable && (offset > s->size || len > s->size - offset))
		return err_set(err, -EBADMSG, "image is truncated at byte %llu",
			       (unsigned long long)s->size);
	buf = malloc(len + 1);
	if (!buf)
		return err_nomem(err);
	r = image_read_at(s, offset, buf, len, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(buf);
	return 0;
}

static int read_record(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	_cleanup_free_ uint8_t *payload = NULL;
	struct format_record rec;
	int r = format_get_record(p->head, &rec, err);

	if (r < 0)
		return r;
	r = read_block(im->source, p->pos + FRAME_SIZE, rec.length, &payload, err);
	if (r < 0)
		return r;
	if (format_hash(payload, rec.length) != rec.checksum)
		return image_corrupt(err, "wrong checksum of a record");
	if (p->nrecords++ >= RECORDS_MAX)
		return image_corrupt(err, "too many records");
	XXH3_64bits_update(p->records_hash, p->head, FRAME_SIZE);
	p->pos += FRAME_SIZE + rec.length;
	p->has_head = false;
	return add_record(im, &rec, payload, err);
}

static int read_records(struct image *im, struct err *err)
{
	for (;;) {
		int r = image_read_head(im, err);

		if (r < 0)
			return r;
		if (format_frame_kind(im->private->head) != FRAME_RECORD)
			break;
		r = read_record(im, err);
		if (r < 0)
			return r;
	}
	return im->info ? 0 : image_corrupt(err, "it has no Image record");
}

/* ---- the index of a seekable image ---- */

static int parse_entry(const struct image *im, const uint8_t *p, size_t left, uint64_t offset,
		       struct chunk_ref *c, size_t *ret_len, struct err *err)
{
	unsigned n;
	int r;

	if (left < ENTRY_PREFIX + FRAME_SIZE)
		return image_corrupt(err, "the index ends inside an entry");
	r = format_chunk_extents(p + ENTRY_PREFIX, &n, err);
	if (r < 0)
		return r;
	if (left < ENTRY_PREFIX + format_chunk_head(n))
		return image_corrupt(err, "the index ends inside an entry");
	if (le64_get(p) != offset)
		return image_corrupt(err, "the index points to the wrong place");
	*ret_len = ENTRY_PREFIX + format_chunk_head(n);
	return format_get_chunk(p + ENTRY_PREFIX, offset, c, err);
}

static int alloc_chunks(struct image *im, struct err *err)
{
	/* What is neither prefix nor fixed part of an entry can only be extents. */
	const struct format_index *x = &im->private->index_head;
	size_t extents = (x->length - INDEX_PREFIX) / EXTENT_SIZE;

	im->stored = calloc(x->nchunks + 1, sizeof(*im->stored));
	im->private->pieces = calloc(extents + 1, sizeof(struct piece));
	if (!im->stored || !im->private->pieces)
		return err_nomem(err);
	return 0;
}

/* Takes the entries of chunks that lie one behind the other from *offset on. */
static int parse_entries(struct image *im, uint64_t *offset, struct err *err)
{
	struct image_private *p = im->private;

	while (im->nstored < p->index_head.nchunks) {
		struct chunk_ref *c = &im->stored[im->nstored];
		const uint8_t *entry = p->index + p->index_at;
		size_t left = p->index_head.length - p->index_at, len = 0;
		int r;

		if (left >= ENTRY_PREFIX && le64_get(entry) != *offset)
			break;
		c->image = im;
		c->piece = p->pieces + p->pieces_used;
		r = parse_entry(im, entry, left, *offset, c, &len, err);
		if (r < 0)
			return r;
		p->pieces_used += c->n;
		p->index_at += len;
		*offset = c->data_offset + c->stored_len;
		im->nstored++;
	}
	return 0;
}

/* From the records to the index; no byte is left out. */
static int parse_index(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	uint64_t offset = p->pos;
	int r = parse_entries(im, &offset, err);

	if (r < 0)
		return r;
	if (im->nstored < p->index_head.nchunks)
		return image_corrupt(err, "the index points to the wrong place");
	if (p->index_at != p->index_head.length)
		return image_corrupt(err, "the index is longer than its number of chunks");
	if (offset != p->index_offset)
		return image_corrupt(err, "the index does not follow the last chunk");
	return 0;
}

static int read_footer(struct image *im, struct format_footer *ret, struct err *err)
{
	uint8_t buf[FOOTER_SIZE];
	uint64_t size = im->source->size;
	int r;

	if (size < HEADER_SIZE + FRAME_SIZE + INDEX_PREFIX + FOOTER_SIZE)
		return err_set(err, -EBADMSG, "image is truncated at byte %llu",
			       (unsigned long long)size);
	r = image_read_at(im->source, size - FOOTER_SIZE, buf, sizeof(buf), err);
	if (r < 0)
		return r;
	r = format_get_footer(buf, ret, err);
	if (r < 0)
		return r;
	if (ret->image_size != size || memcmp(ret->id, im->id, sizeof(im->id)) != 0)
		return image_corrupt(err, "its end belongs to another image");
	return 0;
}

static int check_records_hash(struct image *im, struct err *err)
{
	const struct image_private *p = im->private;

	if (p->index_head.nrecords != p->nrecords ||
	    le64_get(p->index) != XXH3_64bits_digest(p->records_hash))
		return image_corrupt(err, "records are missing or out of order");
	return 0;
}

/* Its bytes, checked as a whole. */
static int load_index(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	struct format_index *x = &p->index_head;
	uint64_t end = im->source->size - FOOTER_SIZE;
	uint8_t head[FRAME_SIZE];
	struct format_footer f;
	int r = read_footer(im, &f, err);

	if (r < 0)
		return r;
	if (f.index_offset < p->pos || f.index_offset > end - FRAME_SIZE)
		return image_corrupt(err, "the index is not where it should be");
	r = image_read_at(im->source, f.index_offset, head, sizeof(head), err);
	if (r < 0)
		return r;
	r = format_get_index(head, x, err);
	if (r < 0)
		return r;
	if (x->length != end - f.index_offset - FRAME_SIZE)
		return image_corrupt(err, "the index does not reach to the end");
	r = read_block(im->source, f.index_offset + FRAME_SIZE, x->length, &p->index, err);
	if (r < 0)
		return r;
	if (format_hash(p->index, x->length) != x->checksum)
		return image_corrupt(err, "wrong checksum of the index");
	p->index_offset = f.index_offset;
	p->index_at = INDEX_PREFIX;
	return alloc_chunks(im, err);
}

static int read_index(struct image *im, struct err *err)
{
	int r = im->private->index ? 0 : load_index(im, err);

	if (r == 0)
		r = check_records_hash(im, err);
	if (r == 0)
		r = parse_index(im, err);
	free(TAKE_PTR(im->private->index));
	return r;
}

/* Where they end, which the index tells, the records begin. */
static int read_early(struct image *im, struct err *err)
{
	struct image_private *p = im->private;
	int r = load_index(im, err);

	if (r == 0)
		r = parse_entries(im, &p->pos, err);
	for (size_t i = 0; i < im->nstored && r == 0; i++)
		if (!chunk_may_be_early(&im->stored[i]))
			r = image_corrupt(err, "an early chunk is of a kind that cannot be early");
	im->nearly = im->nstored;
	p->early_end = p->pos;
	p->has_head = false;
	return r;
}

/* ---- opening ---- */

/* A short file may be foreign or truncated: its first bytes tell. */
static int check_magic(const uint8_t *buf, size_t len, struct err *err)
{
	uint8_t magic[HEADER_SIZE];

	format_put_header(magic, &(struct format_header){0});
	if (len == 0 || memcmp(buf, magic, MIN(len, MAGIC_SIZE)) != 0)
		return err_set(err, -EBADMSG, "not a cpx image");
	return 0;
}

static int take_header(struct image *im, const uint8_t *buf, struct err *err)
{
	struct format_header h;
	int r = format_get_header(buf, &h, err);

	if (r < 0)
		return r;
	im->version = h.version;
	memcpy(im->id, h.id, sizeof(im->id));
	memcpy(im->parent_id, h.parent_id, sizeof(im->parent_id));
	im->private->pos = HEADER_SIZE;
	return 0;
}

/* Also the first frame's head. */
static int read_header(struct image *im, uint8_t buf[HEADER_SIZE], struct err *err)
{
	struct source *s = im->source;
	size_t first = s->is_seekable ? MIN(s->size, MAGIC_SIZE) : MAGIC_SIZE;
	int r = image_read_at(s, 0, buf, first, err);

	if (r == 0)
		r = check_magic(buf, first, err);
	if (r == 0)
		r = image_read_at(s, first, buf + first, HEADER_SIZE - first, err);
	if (r == 0)
		r = take_header(im, buf, err);
	return r < 0 ? r : image_read_head(im, err);
}

int image_peek_id(struct source *s, uint8_t ret[16], struct err *err)
{
	uint8_t buf[HEADER_SIZE];
	struct format_header h;
	int r = image_read_at(s, 0, buf, sizeof(buf), err);

	if (r == 0)
		r = format_get_header(buf, &h, err);
	if (r == 0)
		memcpy(ret, h.id, sizeof(h.id));
	return r;
}

static int new_image(struct source *s, struct image **ret, struct err *err)
{
	struct image *im = calloc(1, sizeof(*im));
	struct image_private *p = calloc(1, sizeof(*p));

	if (!im || !p) {
		free(im);
		free(p);
		return err_nomem(err);
	}
	p->allocator = (ProtobufCAllocator){budget_alloc, budget_free, p};
	p->allocated_max = METADATA_MAX;
	im->source = s;
	im->private = p;
	*ret = im;
	p->records_hash = XXH3_createState();
	p->index_hash = XXH3_createState();
	p->file_hash = XXH3_createState();
	if (!p->records_hash || !p->index_hash || !p->file_hash)
		return err_nomem(err);
	XXH3_64bits_reset(p->records_hash);
	XXH3_64bits_reset(p->index_hash);
	return 0;
}

static void cleanup_image(struct image **im)
{
	image_free(*im);
}

static bool has_early(const struct image *im)
{
	return format_frame_kind(im->private->head) == FRAME_CHUNK;
}

/* Layers are looked up here and there: a stream of them becomes a file first. */
static int begin(struct image *im, struct err *err)
{
	uint8_t buf[HEADER_SIZE + FRAME_SIZE] = {0};
	int r = read_header(im, buf, err);

	if (r < 0 || im->source->is_seekable || (!has_early(im) && !image_has_parent(im)))
		return r;
	memcpy(buf + HEADER_SIZE, im->private->head, FRAME_SIZE);
	return image_spool(im->source, buf, sizeof(buf), err);
}

static int read_metadata(struct image *im, struct err *err)
{
	int r = im->source->is_seekable && has_early(im) ? read_early(im, err) : 0;

	if (r == 0)
		r = read_records(im, err);
	im->private->records_end = im->private->pos;
	if (r == 0 && im->source->is_seekable)
		r = read_index(im, err);
	return r;
}

static int check_metadata(struct image *im, struct err *err)
{
	int r = validate_records(im, err);

	return r < 0 || !im->source->is_seekable ? r : validate_chunks(im, err);
}

/* Where image_next_chunk() begins. */
static void rewind_chunks(struct image *im)
{
	if (!im->nearly)
		return;
	im->private->pos = HEADER_SIZE;
	im->private->has_head = false;
}

static int open_new(struct image *im, struct err *err)
{
	int r = begin(im, err);

	if (r == 0)
		r = read_metadata(im, err);
	if (r == 0)
		r = check_metadata(im, err);
	if (r < 0)
		return r;
	rewind_chunks(im);
	im->chunk = im->stored ? im->stored + im->nearly : NULL;
	im->nchunks = im->nstored - im->nearly;
	return 0;
}

int image_open_alone(struct source *s, struct image **ret, struct err *err)
{
	__attribute__((cleanup(cleanup_image))) struct image *im = NULL;
	int r = new_image(s, &im, err);

	if (r == 0)
		r = open_new(im, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(im);
	return 0;
}

int reader_open_parent(struct source *s, struct image *im, struct err *err)
{
	const struct image_private *child = im->private;
	int r = new_image(s, &im->parent, err);

	if (!im->parent) {
		source_release(s);
		free(s);
		return r;
	}
	im->parent->private->owns_source = true;
	im->parent->private->allocated_max = child->allocated_max - child->allocated;
	return r < 0 ? r : open_new(im->parent, err);
}

bool image_has_parent(const struct image *im)
{
	static const uint8_t none[sizeof(im->parent_id)];

	return memcmp(im->parent_id, none, sizeof(none)) != 0;
}

static void free_chunks(struct image *im)
{
	struct image_private *p = im->private;

	for (size_t i = 0; i < p->nresolved; i++)
		free(p->resolved[i]);
	free(p->resolved);
	free(p->pieces);
	free(p->index);
	if (im->stored && im->chunk != im->stored + im->nearly)
		free(im->chunk);
	free(im->stored);
}

static void free_source(struct image *im)
{
	if (!im->private->owns_source)
		return;
	source_release(im->source);
	free(im->source);
}

static void free_one(struct image *im)
{
	struct image_private *p = im->private;

	for (size_t k = 0; k < ARRAY_SIZE(record_kinds); k++) {
		void **array = *array_of(im, &record_kinds[k]);

		for (size_t i = 0; i < *count_of(im, &record_kinds[k]); i++)
			protobuf_c_message_free_unpacked(array[i], &p->allocator);
		free(array);
	}
	if (im->info)
		cpx__image__free_unpacked(im->info, &p->allocator);
	for (int i = 0; i < IMAGE_MAPS; i++)
		id_map_release(&p->map[i]);
	id_map_release(&p->tids);
	filters_release(&p->filters);
	XXH3_freeState(p->records_hash);
	XXH3_freeState(p->index_hash);
	XXH3_freeState(p->file_hash);
	free_chunks(im);
	free_source(im);
	free(p->scratch);
	free(p->seen.ext);
	free(p);
	free(im);
}

void image_free(struct image *im)
{
	while (im) {
		struct image *parent = im->parent;

		free_one(im);
		im = parent;
	}
}
