/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images written and read back over every source and codec; damage of every kind is an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "image/format.h"
#include "../golden/sample.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct blob {
	uint8_t *data;
	size_t size;
};

static struct blob make(const struct sample *s, enum codec codec, bool page_aligned)
{
	struct image_writer_options o = {.codec = codec, .page_aligned = page_aligned};
	struct err err = ERR_INIT;
	struct blob b;

	if (sample_make(s, &o, &b.data, &b.size, &err) < 0)
		fail_msg("%s", err.msg);
	return b;
}

static struct blob make_default(enum codec codec)
{
	struct sample s;

	sample_init(&s);
	return make(&s, codec, false);
}

/* image_verify() with a buffer of its own: large allocations are slow under sanitizers. */
static int verify(const void *data, size_t size, struct err *err)
{
	static uint8_t buf[CHUNK_MAX];
	struct image *im = NULL;
	struct chunk_ref c;
	struct source src;
	int r;

	source_open_memory(&src, data, size);
	r = image_open(&src, NULL, &im, err);
	while (r == 0)
		r = image_next_chunk(im, &c, buf, err);
	image_free(im);
	source_release(&src);
	return r == -ENODATA ? 0 : r;
}

/* ---- round trips ---- */

static void check_extent_data(const struct chunk_ref *c, const uint8_t *buf)
{
	for (unsigned i = 0; i < c->n; i++) {
		uint64_t base = c->object == SAMPLE_OBJECT ? 0 : SAMPLE_HEAP;
		unsigned page = (c->piece[i].addr - base) / CPX_PAGE_SIZE;

		for (uint64_t k = 0; k < c->piece[i].len; k++)
			assert_int_equal(buf[c->piece[i].from + k],
					 sample_byte(page + k / CPX_PAGE_SIZE, k % CPX_PAGE_SIZE));
	}
}

static void check_records(const struct image *im)
{
	assert_int_equal(im->ntasks, 3);
	assert_int_equal(im->nmms, 2);
	assert_int_equal(im->nobjects, 1);
	assert_int_equal(im->nfiles, 5);
	assert_int_equal(im->nfd_tables, 2);
	assert_int_equal(image_task(im, 102)->ppid, 100);
	assert_null(image_task(im, 101));
	assert_int_equal(image_mm(im, 2)->parent_mm, 1);
	assert_int_equal(image_object(im, SAMPLE_OBJECT)->size, 16 * CPX_PAGE_SIZE);
	assert_int_equal(image_fd_table(im, 1)->n_fd, 4);
	assert_memory_equal(image_file(im, 2)->pipe->data.data, "in the pipe", 11);
}

static void check_chunks(struct image *im)
{
	static const struct {
		uint32_t object;
		enum chunk_kind kind;
	} expected[] = {
		{SAMPLE_OBJECT, CHUNK_DATA}, {1, CHUNK_DATA}, {1, CHUNK_ZERO}, {1, CHUNK_DATA},
		{2, CHUNK_INHERIT},	     {2, CHUNK_DATA},
	};
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	struct err err = ERR_INIT;
	struct chunk_ref c;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		if (image_next_chunk(im, &c, buf, &err) < 0)
			fail_msg("chunk %zu: %s", i, err.msg);
		assert_int_equal(c.object, expected[i].object);
		assert_int_equal(c.kind, expected[i].kind);
		if (c.kind == CHUNK_DATA)
			check_extent_data(&c, buf);
		if (!im->source->is_seekable)
			continue;
		assert_int_equal(im->chunk[i].offset, c.offset);
		memset(buf, 0x55, CHUNK_MAX);
		assert_int_equal(image_read_chunk(&im->chunk[i], buf, &err), 0);
		if (c.kind == CHUNK_DATA)
			check_extent_data(&im->chunk[i], buf);
	}
	assert_int_equal(image_next_chunk(im, &c, buf, &err), -ENODATA);
	assert_int_equal(image_next_chunk(im, &c, buf, &err), -ENODATA);
	assert_int_equal(im->nchunks, im->source->is_seekable ? ARRAY_SIZE(expected) : 0);
}

/* Chunks of which some pages are used, in another order than they are stored: part by part it is the same. */
struct parts {
	uint8_t *expected, *got; /* by address */
	unsigned calls;
};

static int take_part(void *arg, const struct chunk_ref *part, const void *data, struct err *err)
{
	struct parts *p = arg;

	p->calls++;
	for (unsigned i = 0; i < part->n; i++) {
		assert_true(part->piece[i].from + part->piece[i].len <= part->data_len);
		memcpy(p->got + part->piece[i].addr, (const uint8_t *)data + part->piece[i].from, part->piece[i].len);
	}
	return 0;
}

static int read_in_parts(struct source *src, uint64_t checksum, struct parts *p)
{
	struct piece piece[] = {{0, 3 * CPX_PAGE_SIZE, 60 * CPX_PAGE_SIZE}, {0x8000, CPX_PAGE_SIZE, 0},
				{0x10000, 70 * CPX_PAGE_SIZE, 64 * CPX_PAGE_SIZE}};
	const struct image im = {.source = src};
	const struct chunk_ref c = {.image = &im, .object = 1, .kind = CHUNK_DATA, .codec = CODEC_NONE,
				    .data_len = 256 * CPX_PAGE_SIZE, .stored_len = (uint32_t)src->size,
				    .checksum = checksum, .piece = piece, .n = ARRAY_SIZE(piece)};
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	struct err err = ERR_INIT;

	return image_read_parts(&c, buf, take_part, p, &err);
}

static void test_parts(void **state)
{
	const size_t size = 256 * CPX_PAGE_SIZE, room = 128 * CPX_PAGE_SIZE;
	_cleanup_free_ uint8_t *data = malloc(size);
	struct parts p = {calloc(1, room), calloc(1, room), 0};
	uint64_t checksum;
	struct source src;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i * 31 + i / CPX_PAGE_SIZE);
	memcpy(p.expected, data + 60 * CPX_PAGE_SIZE, 3 * CPX_PAGE_SIZE);
	memcpy(p.expected + 0x8000, data, CPX_PAGE_SIZE);
	memcpy(p.expected + 0x10000, data + 64 * CPX_PAGE_SIZE, 70 * CPX_PAGE_SIZE);
	source_open_memory(&src, data, size);
	assert_int_equal(read_in_parts(&src, format_hash(data, size), &p), 0);
	assert_memory_equal(p.got, p.expected, room);
	assert_true(p.calls > 1);
	/* Not even where no page is used may a byte be another. */
	checksum = format_hash(data, size);
	data[size - 1] ^= 1;
	assert_int_equal(read_in_parts(&src, checksum, &p), -EBADMSG);
	source_release(&src);
	free(p.expected);
	free(p.got);
}

static void check_image(struct source *src)
{
	struct err err = ERR_INIT;
	struct image *im;

	if (image_open(src, NULL, &im, &err) < 0)
		fail_msg("%s", err.msg);
	check_records(im);
	check_chunks(im);
	image_free(im);
}

static const struct {
	enum codec codec;
	int level;
	bool page_aligned;
} variants[] = {
	{CODEC_NONE, 0, false}, {CODEC_NONE, 0, true},	 {CODEC_LZ4, 0, false},
	{CODEC_LZ4, 0, true},	{CODEC_LZ4, 9, false},	 {CODEC_ZSTD, 0, false},
	{CODEC_ZSTD, 1, true},	{CODEC_ZSTD, 19, false},
};

static void test_memory(void **state)
{
	struct sample s;

	sample_init(&s);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct blob b = make(&s, variants[i].codec, variants[i].page_aligned);
		struct source src;
		struct err err = ERR_INIT;

		source_open_memory(&src, b.data, b.size);
		check_image(&src);
		source_release(&src);
		assert_int_equal(verify(b.data, b.size, &err), 0);
		free(b.data);
	}
}

static void test_file(void **state)
{
	struct sample s;

	sample_init(&s);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct image_writer_options o = {variants[i].codec, variants[i].level,
						 variants[i].page_aligned};
		_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
		struct err err = ERR_INIT;
		struct source src;

		assert_int_equal(sample_write(&s, fd, &o, &err), 0);
		lseek(fd, 0, SEEK_SET);
		assert_int_equal(source_open_fd(&src, fd, &err), 0);
		assert_true(src.is_seekable);
		check_image(&src);
		source_release(&src);
	}
}

struct pipe_writer {
	const struct sample *sample;
	struct image_writer_options options;
	int fd, result;
};

static void *write_to_pipe(void *arg)
{
	struct pipe_writer *p = arg;
	struct err err = ERR_INIT;

	p->result = sample_write(p->sample, p->fd, &p->options, &err);
	close(p->fd);
	return NULL;
}

/* The pipe holds less than the image, and its writing end is non-blocking for half the cases. */
static void test_pipe(void **state)
{
	struct sample s;

	sample_init(&s);
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		struct pipe_writer p = {
			&s, {variants[i].codec, variants[i].level, variants[i].page_aligned}};
		struct err err = ERR_INIT;
		struct source src;
		pthread_t thread;
		int fds[2];

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		p.fd = fds[1];
		if (i % 2) {
			fcntl(fds[0], F_SETFL, O_NONBLOCK);
			fcntl(fds[1], F_SETFL, O_NONBLOCK);
		}
		assert_int_equal(pthread_create(&thread, NULL, write_to_pipe, &p), 0);
		assert_int_equal(source_open_fd(&src, fds[0], &err), 0);
		assert_false(src.is_seekable);
		check_image(&src);
		pthread_join(thread, NULL);
		assert_int_equal(p.result, 0);
		source_release(&src);
		close(fds[0]);
	}
}

/* A descriptor that appends, or does not stand at the start, is written to as a stream. */
static void test_append(void **state)
{
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	struct image_writer_options o = {CODEC_LZ4};
	struct err err = ERR_INIT;
	struct source src;
	struct sample s;

	sample_init(&s);
	assert_int_equal(write(fd, "before", 6), 6);
	assert_int_equal(sample_write(&s, fd, &o, &err), 0);
	lseek(fd, 6, SEEK_SET);
	assert_int_equal(source_open_fd(&src, fd, &err), 0);
	assert_false(src.is_seekable);
	check_image(&src);
	source_release(&src);
}

static void write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	assert_int_equal(pwrite(fd, data, len, offset), len);
}

/* Reserved chunks, finished in another order than reserved, between ordinary ones. */
static void test_reserve(void **state)
{
	struct extent e[2] = {{SAMPLE_HEAP, 2 * CPX_PAGE_SIZE},
			      {SAMPLE_HEAP + 4 * CPX_PAGE_SIZE, CPX_PAGE_SIZE}};
	struct extent zero = {0x555555555000, CPX_PAGE_SIZE};
	struct image_writer_options o = {.page_aligned = true};
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	uint8_t buf[2 * CPX_PAGE_SIZE];
	uint64_t offset[2], size;
	struct image_writer *w;
	struct err err = ERR_INIT;
	unsigned handle[2];
	struct source src;
	struct image *im;
	struct sample s;

	sample_init(&s);
	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_int_equal(sample_write_records(&s, w, &err), 0);
	assert_int_equal(image_reserve_chunk(w, 1, &e[0], 1, &offset[0], &handle[0], &err), 0);
	assert_int_equal(image_write_chunk(w, 1, CHUNK_ZERO, &zero, 1, NULL, &err), 0);
	assert_int_equal(image_reserve_chunk(w, 1, &e[1], 1, &offset[1], &handle[1], &err), 0);
	assert_int_equal(offset[0] % CPX_PAGE_SIZE, 0);
	assert_int_equal(offset[1] % CPX_PAGE_SIZE, 0);
	sample_pages(4, 1, buf);
	write_at(fd, buf, CPX_PAGE_SIZE, offset[1]);
	assert_int_equal(image_finish_chunk(w, handle[1], format_hash(buf, CPX_PAGE_SIZE), &err),
			 0);
	assert_true(image_writer_seal(w, &size, &err) < 0);
	sample_pages(0, 2, buf);
	write_at(fd, buf, sizeof(buf), offset[0]);
	assert_int_equal(image_finish_chunk(w, handle[0], format_hash(buf, sizeof(buf)), &err), 0);
	assert_true(image_finish_chunk(w, handle[0], 0, &err) < 0);
	assert_int_equal(image_writer_seal(w, &size, &err), 0);
	image_writer_free(w);

	lseek(fd, 0, SEEK_SET);
	assert_int_equal(source_open_fd(&src, fd, &err), 0);
	assert_int_equal(src.size, size);
	if (image_verify(&src, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(image_open(&src, NULL, &im, &err), 0);
	assert_int_equal(im->nchunks, 3);
	for (int i = 0; i < 3; i += 2) {
		uint8_t data[2 * CPX_PAGE_SIZE];

		assert_int_equal(image_read_chunk(&im->chunk[i], data, &err), 0);
		check_extent_data(&im->chunk[i], data);
	}
	image_free(im);
	source_release(&src);
}

/* Without anything to lean on, room cannot be reserved. */
static void test_reserve_stream(void **state)
{
	struct extent e = {SAMPLE_HEAP, CPX_PAGE_SIZE};
	struct image_writer_options o = {0};
	struct image_writer *w;
	struct err err = ERR_INIT;
	uint64_t offset;
	unsigned handle;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(image_writer_new(fds[1], &o, &w, &err), 0);
	assert_int_equal(image_reserve_chunk(w, 1, &e, 1, &offset, &handle, &err), -ESPIPE);
	image_writer_free(w);
	close(fds[0]);
	close(fds[1]);
}

struct preparing {
	struct prepared_chunk *chunk[8];
	const struct image_writer_options *o;
	unsigned first;
	uint8_t data[8][CPX_PAGE_SIZE]; /* borrowed by what does not shrink */
};

static void *prepare(void *arg)
{
	struct preparing *p = arg;

	for (unsigned i = 0; i < 8; i++) {
		unsigned page = p->first + i;
		struct extent e = {SAMPLE_HEAP + page * CPX_PAGE_SIZE, CPX_PAGE_SIZE};
		struct err err = ERR_INIT;

		sample_pages(page, 1, p->data[i]);
		if (image_prepare_chunk(p->o, 1, CHUNK_DATA, &e, 1, p->data[i], &p->chunk[i], &err) < 0)
			p->chunk[i] = NULL;
	}
	return NULL;
}

/* Chunks compressed by several threads and written in whatever order. */
static void test_prepared(void **state)
{
	struct image_writer_options o = {CODEC_ZSTD, 1};
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	struct preparing p[2] = {{.o = &o}, {.o = &o, .first = 8}};
	struct err err = ERR_INIT;
	struct image_writer *w;
	pthread_t thread[2];
	struct source src;
	struct sample s;
	uint64_t size;

	sample_init(&s);
	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_int_equal(sample_write_records(&s, w, &err), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, prepare, &p[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (int i = 7; i >= 0; i--)
		for (int k = 0; k < 2; k++) {
			assert_non_null(p[k].chunk[i]);
			assert_int_equal(image_write_prepared(w, p[k].chunk[i], &err), 0);
		}
	assert_int_equal(image_writer_seal(w, &size, &err), 0);
	image_writer_free(w);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(source_open_fd(&src, fd, &err), 0);
	assert_int_equal(image_verify(&src, NULL, &err), 0);
	source_release(&src);
}

/* ---- what the writer refuses ---- */

static void test_writer_order(void **state)
{
	struct extent e = {SAMPLE_HEAP, CPX_PAGE_SIZE}, odd = {SAMPLE_HEAP, 100};
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	struct image_writer_options o = {0};
	uint8_t page[CPX_PAGE_SIZE] = {0};
	struct err err = ERR_INIT;
	struct image_writer *w;
	struct sample s;

	sample_init(&s);
	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_true(image_write_record(w, RECORD_TASK, &s.root.base, &err) < 0);
	assert_int_equal(sample_write_records(&s, w, &err), 0);
	assert_true(image_write_record(w, RECORD_IMAGE, &s.image.base, &err) < 0);
	assert_true(image_write_chunk(w, 1, CHUNK_DATA, &odd, 1, page, &err) < 0);
	assert_true(image_write_chunk(w, 99, CHUNK_DATA, &e, 1, page, &err) < 0);
	assert_int_equal(image_write_chunk(w, 2, CHUNK_DATA, &e, 1, page, &err), 0);
	assert_true(image_write_chunk(w, 1, CHUNK_DATA, &e, 1, page, &err) < 0);
	assert_true(image_write_chunk(w, SAMPLE_OBJECT, CHUNK_DATA, &e, 1, page, &err) < 0);
	assert_true(image_write_record(w, RECORD_TASK, &s.root.base, &err) < 0);
	image_writer_free(w);
}

static void test_writer_errors(void **state)
{
	_cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct image_writer_options o = {0};
	struct image_writer *w;
	struct err err = ERR_INIT;
	int fds[2];

	assert_int_equal(image_writer_new(full, &o, &w, &err), -ENOSPC);
	assert_string_equal(err.msg, "cannot write the image: No space left on device");
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	assert_int_equal(image_writer_new(fds[1], &o, &w, &err), -EPIPE);
	close(fds[1]);
}

/* ---- damage ---- */

/* A small image: one page of memory data in each of a few chunks, so that every byte can be tried.
 */
static struct blob make_small(enum codec codec, bool page_aligned)
{
	struct sample s;

	sample_init(&s);
	s.codec_pages = 1;
	return make(&s, codec, page_aligned);
}

static void flip_each(struct blob b, size_t from, size_t step)
{
	struct err err = ERR_INIT;

	assert_int_equal(verify(b.data, b.size, &err), 0);
	for (size_t i = from; i < b.size; i += step) {
		b.data[i] ^= 1 << i % 8;
		err = (struct err)ERR_INIT;
		if (verify(b.data, b.size, &err) >= 0)
			fail_msg("flipped byte %zu of %zu goes unnoticed", i, b.size);
		if (!*err.msg || err.code >= 0 || err.code == -ENODATA)
			fail_msg("flipped byte %zu: '%s', %d", i, err.msg, err.code);
		b.data[i] ^= 1 << i % 8;
	}
	free(b.data);
}

static void test_flipped(void **state)
{
	/* The records are the same in all of them; most of an aligned image is padding. */
	flip_each(make_small(CODEC_LZ4, false), 0, 1);
	flip_each(make_small(CODEC_ZSTD, false), 5000, 1);
	flip_each(make_small(CODEC_NONE, true), 5000, 11);
}

static void test_truncated(void **state)
{
	struct blob b = make_small(CODEC_LZ4, false);

	for (size_t n = 0; n < b.size; n++) {
		/* malloc'ed to the byte so that sanitizers see a read beyond the end */
		_cleanup_free_ uint8_t *part = malloc(n + !n);
		struct err err = ERR_INIT;

		memcpy(part, b.data, n);
		if (verify(part, n, &err) >= 0)
			fail_msg("truncation at %zu of %zu goes unnoticed", n, b.size);
		if (n == 0)
			assert_string_equal(err.msg, "not a cpx image");
		else
			assert_non_null(strstr(err.msg, "truncated"));
	}
	free(b.data);
}

static void set_pipe_source(struct source *src, struct blob b, size_t n, int fds[2])
{
	struct err err = ERR_INIT;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_true(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0);
	assert_int_equal(write(fds[1], b.data, n), n);
	close(fds[1]);
	assert_int_equal(source_open_fd(src, fds[0], &err), 0);
}

/* Streams have no end mark to look for first: every check has to be made on the way. */
static void test_damaged_stream(void **state)
{
	struct blob b = make_small(CODEC_LZ4, true);
	struct source src;
	int fds[2];

	for (size_t n = 0; n <= b.size; n += n < b.size - 200 ? 37 : 1) {
		struct err err = ERR_INIT;
		int r;

		set_pipe_source(&src, b, n, fds);
		r = image_verify(&src, NULL, &err);
		if ((r == 0) != (n == b.size))
			fail_msg("truncation at %zu of %zu: %d %s", n, b.size, r, err.msg);
		if (n < b.size)
			assert_non_null(strstr(err.msg, "truncated"));
		close(fds[0]);
	}
	for (size_t i = 0; i < b.size; i += 7) {
		struct err err = ERR_INIT;

		b.data[i] ^= 0x10;
		set_pipe_source(&src, b, b.size, fds);
		if (image_verify(&src, NULL, &err) == 0)
			fail_msg("flipped byte %zu of %zu goes unnoticed", i, b.size);
		b.data[i] ^= 0x10;
		close(fds[0]);
	}
	free(b.data);
}

static void test_foreign(void **state)
{
	static const char *const foreign[] = {"", "x", "#!/bin/sh\n", "\177ELF"};
	_cleanup_free_ uint8_t *noise = calloc(1, 5000);
	struct err err = ERR_INIT;
	struct source src;

	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		assert_true(verify(foreign[i], strlen(foreign[i]), &err) < 0);
		assert_string_equal(err.msg, "not a cpx image");
	}
	assert_true(verify(noise, 5000, &err) < 0);
	assert_string_equal(err.msg, "not a cpx image");
	_cleanup_close_ int dir = open("/tmp", O_RDONLY | O_CLOEXEC);
	assert_int_equal(source_open_fd(&src, dir, &err), -EISDIR);
}

static void test_newer(void **state)
{
	struct format_header h = {.version = FORMAT_VERSION + 1};
	struct blob b = make_small(CODEC_LZ4, false);
	struct err err = ERR_INIT;

	format_put_header(b.data, &h);
	assert_int_equal(verify(b.data, b.size, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.msg, "image has format version 2, newer than this cpx reads (1)");
	free(b.data);
}

static void test_trailing(void **state)
{
	struct blob b = make_small(CODEC_LZ4, false);
	struct err err = ERR_INIT;

	b.data = realloc(b.data, b.size + 1);
	b.data[b.size] = 0;
	assert_true(verify(b.data, b.size + 1, &err) < 0);
	free(b.data);
}

/* Frames of an unknown kind of record, put in by hand between the records. */
static int verify_with_record(uint32_t type, const ProtobufCMessage *msg)
{
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	struct image_writer_options o = {0};
	struct err err = ERR_INIT;
	struct image_writer *w;
	struct source src;
	struct sample s;
	uint64_t size;
	int r;

	sample_init(&s);
	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_int_equal(sample_write_records(&s, w, &err), 0);
	assert_int_equal(image_write_record(w, type, msg, &err), 0);
	assert_int_equal(image_writer_seal(w, &size, &err), 0);
	image_writer_free(w);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(source_open_fd(&src, fd, &err), 0);
	r = image_verify(&src, NULL, &err);
	source_release(&src);
	return r;
}

static void test_unknown_records(void **state)
{
	Cpx__Path any = CPX__PATH__INIT;

	assert_int_equal(verify_with_record(77 | RECORD_OPTIONAL, &any.base), 0);
	assert_int_equal(verify_with_record(77, &any.base), -EPROTONOSUPPORT);
}

/* As bytes a SigAction with these two is an FdTable with an id and a field of the future. */
static void test_unknown_fields(void **state)
{
	Cpx__SigAction future = CPX__SIG_ACTION__INIT;

	future.signo = 9;
	assert_int_equal(verify_with_record(RECORD_FD_TABLE, &future.base), 0);
	future.mask = 1;
	assert_int_equal(verify_with_record(RECORD_FD_TABLE, &future.base), -EPROTONOSUPPORT);
}

/* ---- chunks that are good one by one ---- */

static void write_page_twice(int fd, const struct sample *s, bool is_last)
{
	struct extent e = {SAMPLE_HEAP, CPX_PAGE_SIZE};
	struct image_writer_options o = {0};
	uint8_t page[CPX_PAGE_SIZE] = {1};
	struct err err = ERR_INIT;
	struct image_writer *w;
	uint64_t size;

	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_int_equal(sample_write_records(s, w, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(image_write_chunk(w, 1, CHUNK_DATA, &e, 1, page, &err), 0);
	if (!is_last)
		assert_int_equal(image_write_chunk(w, 2, CHUNK_DATA, &e, 1, page, &err), 0);
	assert_int_equal(image_writer_seal(w, &size, &err), 0);
	image_writer_free(w);
}

/* A page that is there twice, in a file and in a stream. */
static void test_overlapping_chunks(void **state)
{
	struct sample s;

	sample_init(&s);
	for (int i = 0; i < 4; i++) {
		struct err err = ERR_INIT;
		struct source src;
		int fds[2];

		if (i < 2) {
			fds[0] = memfd_create("image", MFD_CLOEXEC);
			fds[1] = dup(fds[0]);
		} else {
			assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		}
		write_page_twice(fds[1], &s, i % 2);
		close(fds[1]);
		if (i < 2)
			lseek(fds[0], 0, SEEK_SET);
		assert_int_equal(source_open_fd(&src, fds[0], &err), 0);
		assert_true(image_verify(&src, NULL, &err) < 0);
		assert_non_null(strstr(err.msg, "twice"));
		source_release(&src);
		close(fds[0]);
	}
}

static void test_sizes(void **state)
{
	struct blob raw = make_default(CODEC_NONE), lz4 = make_default(CODEC_LZ4),
		    zstd = make_default(CODEC_ZSTD);

	assert_true(lz4.size < raw.size * 3 / 4);
	assert_true(zstd.size < raw.size * 3 / 4);
	free(raw.data);
	free(lz4.data);
	free(zstd.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),	       cmocka_unit_test(test_file),
		cmocka_unit_test(test_pipe),	       cmocka_unit_test(test_append),
		cmocka_unit_test(test_reserve),	       cmocka_unit_test(test_reserve_stream),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_prepared),       cmocka_unit_test(test_writer_order),
		cmocka_unit_test(test_writer_errors),  cmocka_unit_test(test_flipped),
		cmocka_unit_test(test_truncated),      cmocka_unit_test(test_damaged_stream),
		cmocka_unit_test(test_foreign),	       cmocka_unit_test(test_newer),
		cmocka_unit_test(test_trailing),       cmocka_unit_test(test_unknown_records),
		cmocka_unit_test(test_unknown_fields), cmocka_unit_test(test_overlapping_chunks),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
