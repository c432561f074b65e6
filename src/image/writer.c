/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes images front to back: header, records, chunks, index, footer. Owns the index while it
 * grows; the descriptor is borrowed. On a regular file it writes by position, so that others may
 * fill reserved chunks meanwhile; everything else gets a plain stream.
 *
 * The order that a restore from a stream relies on is enforced here: the Image record first, all
 * records before the chunks, these grouped by object in the order of the records, objects before
 * mms. What comes before the records is an early chunk, for which there is no order.
 */
#include "image/format.h"
#include "base/hash.h"
#include "base/util.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>

struct entry {
	size_t at;    /* in the index */
	bool is_open; /* reserved and not finished */
};

struct owner { /* of chunks: an Object or an Mm */
	uint32_t id;
	bool is_mm;
};

struct image_writer {
	int fd;
	bool by_position;
	struct image_writer_options options;
	uint64_t pos; /* next byte of the image */
	uint8_t id[16];
	uint32_t nrecords;
	XXH3_state_t *records_hash;
	struct entry *entry;
	size_t nentries, max_entries;
	uint8_t *index; /* entries, encoded; INDEX_PREFIX bytes are left free in front */
	size_t index_len, index_max;
	struct owner *owner;
	size_t nowners, max_owners, current_owner;
	bool has_owner; /* of a chunk after the records */
	bool is_sealed;
};

struct prepared_chunk {
	struct chunk_ref ref;
	void *stored;	  /* NULL: does not shrink ... */
	const void *data; /* ... and is stored as it is, borrowed */
	struct piece piece[];
};

/* ---- putting bytes out ---- */

static ssize_t put_some(struct image_writer *w, struct iovec *v, int n)
{
	for (;;) {
		ssize_t k = w->by_position ? pwritev(w->fd, v, n, w->pos) : writev(w->fd, v, n);

		if (k > 0)
			return k;
		if (k == 0)
			return -EIO;
		if (errno == EAGAIN) {
			struct pollfd p = {.fd = w->fd, .events = POLLOUT};

			poll(&p, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

static void advance(struct iovec **v, int *n, size_t done)
{
	while (*n && done >= (*v)->iov_len) {
		done -= (*v)->iov_len;
		(*v)++;
		(*n)--;
	}
	if (*n) {
		(*v)->iov_base = (uint8_t *)(*v)->iov_base + done;
		(*v)->iov_len -= done;
	}
}

static int keep_pace(const struct image_writer *w, struct err *err)
{
	return w->options.pace ? w->options.pace(w->options.pace_arg, w->pos, err) : 0;
}

/* Writes all of v at the writer's position. Changes v. */
static int put(struct image_writer *w, struct iovec *v, int n, struct err *err)
{
	advance(&v, &n, 0);
	while (n) {
		ssize_t k = put_some(w, v, n);

		if (k < 0)
			return err_sys(err, k, "cannot write the image");
		w->pos += k;
		advance(&v, &n, k);
	}
	return keep_pace(w, err);
}

static int put_at(int fd, uint64_t pos, const uint8_t *p, size_t len, struct err *err)
{
	while (len) {
		ssize_t k = pwrite(fd, p, len, pos);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_sys(err, k < 0 ? -errno : -EIO, "cannot write the image");
		p += k;
		pos += k;
		len -= k;
	}
	return 0;
}

/* ---- the writer ---- */

/* Appending descriptors put everything at the end whatever the position (pwrite(2), BUGS), and an
 * image that does not start at 0 has no positions of its own. */
static bool can_write_by_position(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flags >= 0 && !(flags & O_APPEND) &&
	       lseek(fd, 0, SEEK_CUR) == 0;
}

static int make_id(uint8_t id[16], struct err *err)
{
	ssize_t n;

	do
		n = getrandom(id, 16, 0);
	while (n < 0 && errno == EINTR);
	return n == 16 ? 0 : err_sys(err, n < 0 ? -errno : -EIO, "cannot get random bytes");
}

static int put_header(struct image_writer *w, struct err *err)
{
	struct format_header h = {.version = FORMAT_VERSION};
	uint8_t buf[HEADER_SIZE];
	struct iovec v = {buf, sizeof(buf)};

	memcpy(h.id, w->id, sizeof(h.id));
	memcpy(h.parent_id, w->options.parent_id, sizeof(h.parent_id));
	format_put_header(buf, &h);
	return put(w, &v, 1, err);
}

static void cleanup_writer(struct image_writer **w)
{
	image_writer_free(*w);
}

int image_writer_new(int fd, const struct image_writer_options *o, struct image_writer **ret,
		     struct err *err)
{
	__attribute__((cleanup(cleanup_writer))) struct image_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_nomem(err);
	w->fd = fd;
	w->options = *o;
	w->by_position = can_write_by_position(fd);
	w->index_len = INDEX_PREFIX;
	w->records_hash = XXH3_createState();
	if (!w->records_hash)
		return err_nomem(err);
	XXH3_64bits_reset(w->records_hash);
	r = o->id ? 0 : make_id(w->id, err);
	if (r < 0)
		return r;
	if (o->id)
		memcpy(w->id, o->id, sizeof(w->id));
	r = put_header(w, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(w);
	return 0;
}

void image_writer_id(const struct image_writer *w, uint8_t ret[16])
{
	memcpy(ret, w->id, sizeof(w->id));
}

void image_writer_free(struct image_writer *w)
{
	if (!w)
		return;
	XXH3_freeState(w->records_hash);
	free(w->entry);
	free(w->index);
	free(w->owner);
	free(w);
}

/* ---- records ---- */

static int misuse(struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "image writer: %s", what);
}

/* Remembers the order in which chunks will have to come. */
static int note_owner(struct image_writer *w, enum record_type type, const ProtobufCMessage *msg,
		      struct err *err)
{
	struct owner o = {.is_mm = type == RECORD_MM};

	if (type == RECORD_MM)
		o.id = ((const Cpx__Mm *)msg)->id;
	else if (type == RECORD_OBJECT)
		o.id = ((const Cpx__Object *)msg)->id;
	else
		return 0;
	if (grow(&w->owner, &w->max_owners, w->nowners, sizeof(o)) < 0)
		return err_nomem(err);
	w->owner[w->nowners++] = o;
	return 0;
}

int image_write_record(struct image_writer *w, enum record_type type, const ProtobufCMessage *msg,
		       struct err *err)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	struct format_record rec = {.type = type, .length = len};
	_cleanup_free_ uint8_t *payload = NULL;
	uint8_t head[FRAME_SIZE];
	struct iovec v[2] = {{head, sizeof(head)}};
	int r;

	if (w->has_owner || w->is_sealed)
		return misuse(err, "a record after the first chunk");
	if ((type == RECORD_IMAGE) != (w->nrecords == 0))
		return misuse(err, "the Image record is the first and only the first");
	if (len > RECORD_MAX || w->nrecords >= RECORDS_MAX)
		return err_set(err, -EFBIG, "too much metadata: a record of %zu bytes", len);
	payload = malloc(len + 1);
	if (!payload)
		return err_nomem(err);
	protobuf_c_message_pack(msg, payload);
	r = note_owner(w, type, msg, err);
	if (r < 0)
		return r;
	rec.checksum = format_hash(payload, len);
	format_put_record(head, &rec);
	XXH3_64bits_update(w->records_hash, head, sizeof(head));
	w->nrecords++;
	v[1] = (struct iovec){payload, len};
	return put(w, v, 2, err);
}

/* ---- chunks ---- */

/* Objects before mms; within each, the order of the records. */
static bool owner_may_follow(const struct image_writer *w, size_t i)
{
	if (w->owner[i].is_mm != w->owner[w->current_owner].is_mm)
		return w->owner[i].is_mm;
	return i >= w->current_owner;
}

static int enter_owner(struct image_writer *w, uint32_t object, struct err *err)
{
	if (w->has_owner && w->owner[w->current_owner].id == object)
		return 0;
	for (size_t i = 0; i < w->nowners; i++) {
		if (w->owner[i].id != object)
			continue;
		if (w->has_owner && !owner_may_follow(w, i))
			return misuse(err, "chunks are not in the order of their records");
		w->current_owner = i;
		w->has_owner = true;
		return 0;
	}
	return misuse(err, "a chunk of an object that has no record");
}

static int check_owner(struct image_writer *w, const struct chunk_ref *c, struct err *err)
{
	if (w->nrecords)
		return enter_owner(w, c->object, err);
	return chunk_may_be_early(c) ? 0 : misuse(err, "a chunk that cannot be an early one");
}

static int reserve_index(struct image_writer *w, size_t len, struct err *err)
{
	if (w->index_len + len > INDEX_MAX)
		return err_set(err, -EFBIG, "the image has more chunks than an index can hold");
	if (grow(&w->index, &w->index_max, w->index_len + len, 1) < 0)
		return err_nomem(err);
	if (grow(&w->entry, &w->max_entries, w->nentries, sizeof(*w->entry)) < 0)
		return err_nomem(err);
	return 0;
}

static bool is_padded(const struct image_writer *w, const struct chunk_ref *c)
{
	return w->options.page_aligned && c->kind == CHUNK_DATA && c->codec == CODEC_NONE;
}

/* Gives the chunk its place and its index entry; does not write it. */
static int place_chunk(struct image_writer *w, struct chunk_ref *c, bool is_open, struct err *err)
{
	size_t head = format_chunk_head(c->n);
	int r = chunk_check(c, err);

	if (r < 0 || w->is_sealed)
		return misuse(err, r < 0 ? "a chunk breaks the rules of the format" : "is sealed");
	r = check_owner(w, c, err);
	if (r < 0)
		return r;
	r = reserve_index(w, ENTRY_PREFIX + head, err);
	if (r < 0)
		return r;
	c->offset = w->pos;
	c->data_offset = w->pos + head;
	if (is_padded(w, c))
		c->data_offset = ALIGN_UP(c->data_offset, (uint64_t)CPX_PAGE_SIZE);
	le64_put(w->index + w->index_len, c->offset);
	format_put_chunk(w->index + w->index_len + ENTRY_PREFIX, c);
	w->entry[w->nentries++] = (struct entry){w->index_len, is_open};
	w->index_len += ENTRY_PREFIX + head;
	return 0;
}

static int put_chunk(struct image_writer *w, struct chunk_ref *c, const void *stored,
		     struct err *err)
{
	static const uint8_t zeros[CPX_PAGE_SIZE];
	size_t head = format_chunk_head(c->n);
	struct iovec v[3];
	int r = place_chunk(w, c, false, err);

	if (r < 0)
		return r;
	v[0] = (struct iovec){w->index + w->index_len - head, head};
	v[1] = (struct iovec){(void *)zeros, c->data_offset - c->offset - head};
	v[2] = (struct iovec){(void *)stored, c->stored_len};
	return put(w, v, 3, err);
}

static uint64_t sum_of(const struct extent *ext, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += ext[i].len;
	return sum;
}

/* Compresses into *ret_stored, or leaves it NULL where the bytes stay as they are. */
static int encode(const struct image_writer_options *o, struct chunk_ref *c, const void *data,
		  void **ret_stored, struct err *err)
{
	_cleanup_free_ void *out = NULL;
	ssize_t n;

	c->codec = CODEC_NONE;
	c->stored_len = c->data_len;
	if (o->codec != CODEC_NONE) {
		out = malloc(c->data_len);
		if (!out)
			return err_nomem(err);
		n = chunk_compress(o->codec, o->level, data, c->data_len, out,
				   chunk_bound(c->data_len), err);
		if (n < 0)
			return n;
		if (n > 0) {
			c->codec = o->codec;
			c->stored_len = n;
			*ret_stored = TAKE_PTR(out);
		}
	}
	c->checksum = format_hash(*ret_stored ? *ret_stored : data, c->stored_len);
	return 0;
}

/* The part of a chunk that is known before it is encoded. piece: room for n. */
static int start_chunk(struct chunk_ref *c, struct piece *piece, uint32_t object,
		       enum chunk_kind kind, const struct extent *ext, unsigned n, struct err *err)
{
	uint64_t sum = sum_of(ext, n);

	if (n > EXTENTS_MAX || (kind == CHUNK_DATA && sum > CHUNK_MAX))
		return misuse(err, "a chunk is too long");
	for (unsigned i = 0; i < n; i++)
		piece[i] = (struct piece){ext[i].addr, ext[i].len, 0};
	*c = (struct chunk_ref){
		.object = object,
		.kind = kind,
		.data_len = kind == CHUNK_DATA ? sum : 0,
		.piece = piece,
		.n = n,
	};
	return 0;
}

int image_write_chunk(struct image_writer *w, uint32_t object, enum chunk_kind kind,
		      const struct extent *ext, unsigned n, const void *data, struct err *err)
{
	_cleanup_free_ void *stored = NULL;
	struct piece piece[EXTENTS_MAX];
	struct chunk_ref c;
	int r = start_chunk(&c, piece, object, kind, ext, n, err);

	if (r < 0)
		return r;
	if (kind == CHUNK_DATA) {
		r = encode(&w->options, &c, data, &stored, err);
		if (r < 0)
			return r;
	}
	return put_chunk(w, &c, stored ? stored : data, err);
}

static void free_prepared(struct prepared_chunk **c)
{
	if (*c)
		free((*c)->stored);
	free(*c);
}

int image_prepare_chunk(const struct image_writer_options *o, uint32_t object, enum chunk_kind kind,
			const struct extent *ext, unsigned n, const void *data,
			struct prepared_chunk **ret, struct err *err)
{
	__attribute__((cleanup(free_prepared))) struct prepared_chunk *c =
		calloc(1, sizeof(*c) + n * sizeof(struct piece));
	int r;

	if (!c)
		return err_nomem(err);
	r = start_chunk(&c->ref, c->piece, object, kind, ext, n, err);
	if (r < 0)
		return r;
	if (kind == CHUNK_DATA) {
		r = encode(o, &c->ref, data, &c->stored, err);
		if (r < 0)
			return r;
	}
	c->data = data;
	*ret = TAKE_PTR(c);
	return 0;
}

void image_prepared_free(struct prepared_chunk *c)
{
	free_prepared(&c);
}

int image_write_prepared(struct image_writer *w, struct prepared_chunk *c, struct err *err)
{
	int r = put_chunk(w, &c->ref, c->stored ? c->stored : c->data, err);

	free_prepared(&c);
	return r;
}

int image_reserve_chunk(struct image_writer *w, uint32_t object, const struct extent *ext,
			unsigned n, uint64_t *ret_offset, unsigned *ret_handle, struct err *err)
{
	struct piece piece[EXTENTS_MAX];
	struct chunk_ref c;
	int r;

	if (!w->by_position)
		return err_set(err, -ESPIPE, "the output is a stream: no room can be reserved");
	r = start_chunk(&c, piece, object, CHUNK_DATA, ext, n, err);
	if (r < 0)
		return r;
	c.stored_len = c.data_len;
	r = place_chunk(w, &c, true, err);
	if (r < 0)
		return r;
	w->pos = c.data_offset + c.stored_len;
	*ret_offset = c.data_offset;
	*ret_handle = w->nentries - 1;
	return keep_pace(w, err);
}

int image_finish_chunk(struct image_writer *w, unsigned handle, uint64_t xxh3, struct err *err)
{
	struct piece piece[EXTENTS_MAX];
	struct chunk_ref c = {.piece = piece};
	uint64_t offset;
	uint8_t *p;
	int r;

	if (handle >= w->nentries || !w->entry[handle].is_open)
		return misuse(err, "no such reserved chunk");
	p = w->index + w->entry[handle].at;
	offset = le64_get(p);
	r = format_get_chunk(p + ENTRY_PREFIX, offset, &c, err);
	if (r < 0)
		return r;
	c.checksum = xxh3;
	format_put_chunk(p + ENTRY_PREFIX, &c);
	w->entry[handle].is_open = false;
	return put_at(w->fd, offset, p + ENTRY_PREFIX, format_chunk_head(c.n), err);
}

/* ---- the end ---- */

static int check_complete(const struct image_writer *w, struct err *err)
{
	if (w->is_sealed || w->nrecords == 0)
		return misuse(err, w->is_sealed ? "is sealed" : "there is no record");
	for (size_t i = 0; i < w->nentries; i++)
		if (w->entry[i].is_open)
			return misuse(err, "a reserved chunk was never finished");
	return 0;
}

int image_writer_seal(struct image_writer *w, uint64_t *ret_bytes, struct err *err)
{
	struct format_index x = {.nrecords = w->nrecords, .nchunks = w->nentries};
	struct format_footer f = {.index_offset = w->pos};
	uint8_t head[FRAME_SIZE], foot[FOOTER_SIZE];
	uint64_t hash = XXH3_64bits_digest(w->records_hash);
	struct iovec v[3];
	int r = check_complete(w, err);

	if (r < 0)
		return r;
	r = reserve_index(w, 0, err); /* the prefix, where there was no chunk */
	if (r < 0)
		return r;
	le64_put(w->index, hash);
	x.length = w->index_len;
	x.checksum = format_hash(w->index, w->index_len);
	format_put_index(head, &x);
	f.image_size = w->pos + FRAME_SIZE + w->index_len + FOOTER_SIZE;
	memcpy(f.id, w->id, sizeof(f.id));
	format_put_footer(foot, &f);
	v[0] = (struct iovec){head, sizeof(head)};
	v[1] = (struct iovec){w->index, w->index_len};
	v[2] = (struct iovec){foot, sizeof(foot)};
	r = put(w, v, 3, err);
	if (r < 0)
		return r;
	if (w->by_position)
		lseek(w->fd, w->pos, SEEK_SET); /* where a shell would go on writing */
	w->is_sealed = true;
	*ret_bytes = f.image_size;
	return 0;
}
