/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images: writing and reading. No process, no privilege; the reader makes no system call but
 * through its source.
 *
 * An image is: header | early chunks | records | chunks | index | footer, written front to back. All metadata
 * records come before the chunks, these grouped by object in the order of the Object and Mm records,
 * shared objects first, then mms in tree order (a parent's before its children's), so that a restore can run from a pipe.
 *
 * Layers: the memory of one image may come from its own chunks, its early chunks (what pre-copy stored
 * while the tree still ran) and its parent image, whose memory may come from its parent in turn. Who
 * opens an image gets one list of chunks that together are all of its memory, wherever their bytes are.
 */
#ifndef CPX_IMAGE_IMAGE_H
#define CPX_IMAGE_IMAGE_H

#include "base/err.h"
#include "cpx.pb-c.h"

#include <stdint.h>
#include <stdbool.h>
#include <stddef.h>

#define CHUNK_MAX   (1UL << 20)   /* bytes of memory in one chunk */
#define EXTENTS_MAX 256		  /* extents in one chunk */
#define RECORD_MAX  (64UL << 20)  /* bytes of one record */

enum record_type { /* u32 in the file; the high bit 0x80000000 marks an optional record */
	RECORD_IMAGE = 1,
	RECORD_TASK = 2,
	RECORD_MM = 3,
	RECORD_OBJECT = 4,
	RECORD_FD_TABLE = 5,
	RECORD_FILE = 6,
};

enum chunk_kind {
	CHUNK_DATA = 1,	   /* extents with bytes */
	CHUNK_INHERIT = 2, /* no bytes: these pages are those of mm parent_mm, shared copy-on-write */
	CHUNK_ZERO = 3,	   /* no bytes: populated with zeros although the backing file is not */
	/* No bytes: as stored before, in the early chunks (the last one that has the page), else in the
	 * parent image. */
	CHUNK_BEFORE = 4,
};

enum codec { CODEC_NONE = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 };

struct extent {
	uint64_t addr; /* bytes: address in an mm, offset in an object; page aligned */
	uint64_t len;  /* bytes; a multiple of the page size (CHUNK_DATA: the sum is at most CHUNK_MAX) */
};

/* ---- writer: one thread at a time ---- */
struct image_writer;

struct image_writer_options {
	enum codec codec; /* of chunks */
	int level;
	bool page_aligned; /* raw data of chunks starts on a page boundary (regular files) */
	uint8_t parent_id[16]; /* of the image that a delta builds on, else 0 */
	const uint8_t *id;     /* 16 bytes; NULL: random, as all but a copy of an image must have */
	/* Called as the image gets longer, in the thread that writes: may wait, or fail. May be NULL. */
	int (*pace)(void *arg, uint64_t position, struct err *err);
	void *pace_arg;
};

/* Writes to fd (borrowed; a pipe will do) and puts the header out. */
int image_writer_new(int fd, const struct image_writer_options *o, struct image_writer **ret, struct err *err);
void image_writer_id(const struct image_writer *w, uint8_t ret[16]);
int image_write_record(struct image_writer *w, enum record_type type, const ProtobufCMessage *msg, struct err *err);

/* Writes one chunk; data holds the extents' bytes back to back (NULL for kinds without). Compresses it here.
 *
 * Chunks written before the first record, by whichever of the functions, are early ones: DATA or ZERO,
 * in any order, pages again and again; `object` is any number but 0, to which Mm.early or Object.early refer
 * later. Those that nobody refers to are lost room and nothing else. */
int image_write_chunk(struct image_writer *w, uint32_t object, enum chunk_kind kind,
		      const struct extent *ext, unsigned n, const void *data, struct err *err);

/* Compression apart from writing, for worker threads: thread-safe. Data that does not shrink is borrowed
 * until the chunk is written or freed. */
struct prepared_chunk;
int image_prepare_chunk(const struct image_writer_options *o, uint32_t object, enum chunk_kind kind,
			const struct extent *ext, unsigned n, const void *data,
			struct prepared_chunk **ret, struct err *err);
int image_write_prepared(struct image_writer *w, struct prepared_chunk *c, struct err *err); /* frees c */
void image_prepared_free(struct prepared_chunk *c); /* one that is not to be written; NULL is fine */

/* For a seekable fd and CODEC_NONE: leaves room for a chunk whose bytes somebody else (the twin)
 * writes at *ret_offset of the file; image_finish_chunk() then writes the header and the index
 * entry with the checksum of those bytes. */
int image_reserve_chunk(struct image_writer *w, uint32_t object, const struct extent *ext, unsigned n,
			uint64_t *ret_offset, unsigned *ret_handle, struct err *err);
int image_finish_chunk(struct image_writer *w, unsigned handle, uint64_t xxh3, struct err *err);

/* Index and footer. Does not fsync. */
int image_writer_seal(struct image_writer *w, uint64_t *ret_bytes, struct err *err);
void image_writer_free(struct image_writer *w);

/* ---- source: where bytes come from; fuzzers feed memory ---- */
struct source {
	/* Reads exactly len bytes at offset; sequential sources accept only the next offset (or skip ahead).
	 * -ENODATA at the end. */
	int (*read_at)(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err);
	bool is_seekable;
	uint64_t size; /* seekable only */
	void *data;
	int fd; /* -1 for memory */
	bool owns_fd;
	uint64_t next; /* sequential: next offset */
};
int source_open_fd(struct source *s, int fd, struct err *err); /* fd borrowed; a pipe will do */
void source_open_memory(struct source *s, const void *data, size_t size);
void source_release(struct source *s);
/* An empty file without a name, for what cannot be kept in memory. */
int source_temporary(struct err *err);

/* An image from a stream, of which the first n bytes have been read already, into an unlinked file,
 * which takes its place. */
int image_spool(struct source *s, const void *head, size_t n, struct err *err);

/* ---- reader ---- */
struct image {
	uint32_t version;
	uint8_t id[16], parent_id[16];
	Cpx__Image *info;
	Cpx__Task **task;
	size_t ntasks;
	Cpx__Mm **mm;
	size_t nmms;
	Cpx__Object **object;
	size_t nobjects;
	Cpx__FdTable **fd_table;
	size_t nfd_tables;
	Cpx__File **file;
	size_t nfiles;
	/* Seekable sources: the chunks that are all the memory of the tree, each page once, by owner in the
	 * order of the records. Their bytes are in the layers: here, or in the files of `parent`. */
	struct chunk_ref *chunk;
	size_t nchunks;
	/* What the file itself holds, in its order: nearly early chunks, then the others. */
	struct chunk_ref *stored;
	size_t nstored, nearly;
	struct image *parent; /* owned; only where memory comes from it */
	struct source *source;
	struct image_private *private;
};

/* What of a chunk goes where. Of a chunk with bytes the pieces need not be all of it, nor in its order. */
struct piece {
	uint64_t addr; /* as struct extent has it */
	uint64_t len;
	uint32_t from; /* offset of its bytes in the chunk when decoded; 0 for kinds without */
};

struct chunk_ref {
	const struct image *image; /* the one in whose file the chunk is */
	uint64_t offset;  /* of its header in the file */
	uint32_t object;
	uint8_t kind, codec;
	uint32_t data_len;   /* uncompressed */
	uint32_t stored_len; /* in the file */
	uint64_t data_offset;
	uint64_t checksum; /* XXH3-64 of the stored bytes */
	struct piece *piece; /* n of them, ascending; owned by the image or the caller's chunk */
	unsigned n;
};

/* Where images come from that others build on. */
struct parent_finder {
	/* The image with the id child->parent_id, as a file. *ret is allocated, and the reader's to
	 * release and free. -ENOLINK: there is none. */
	int (*find)(struct parent_finder *f, const struct image *child, struct source **ret,
		    struct err *err);
};
#define LAYERS_MAX 256 /* images in a chain */

/* Reads and validates all metadata: framing, checksums, schema, and every reference from one
 * record to another (tasks and parents form a tree, ids exist, VMAs ascend, ...), of the image and of
 * those that it builds on. A stream that can only be read as a file (early chunks, deltas) is copied
 * into an unlinked file, which takes its place in *s. finder NULL: -ENOLINK if one is needed. */
int image_open(struct source *s, struct parent_finder *finder, struct image **ret, struct err *err);
/* One file by itself: ->chunk is what it holds after the records, CHUNK_BEFORE and all. */
int image_open_alone(struct source *s, struct image **ret, struct err *err);
/* The id in its header, nothing else of it. */
int image_peek_id(struct source *s, uint8_t ret[16], struct err *err);
bool image_has_parent(const struct image *im); /* is recorded; it need not be needed */
void image_free(struct image *im);
Cpx__Task *image_task(const struct image *im, uint32_t pid);
Cpx__Mm *image_mm(const struct image *im, uint32_t id);
Cpx__Object *image_object(const struct image *im, uint32_t id);
Cpx__FdTable *image_fd_table(const struct image *im, uint32_t id);
Cpx__File *image_file(const struct image *im, uint32_t id);
Cpx__SeccompFilter *image_seccomp_filter(const struct image *im, uint32_t id);
size_t image_seccomp_depth(const struct image *im, uint32_t id); /* itself and those below it */

/* Reads one chunk's bytes and decompresses them into buf (CHUNK_MAX bytes), checking the
 * checksum. Thread-safe on seekable sources. */
int image_read_chunk(const struct chunk_ref *c, void *buf, struct err *err);

/* The same part by part where that can be, so that each is taken while it is in the processor's cache: `take` gets
 * what is to be used of a part like a chunk of its own. The checksum comes at the end: what was taken is only
 * good if this returns 0. */
typedef int chunk_taker(void *arg, const struct chunk_ref *part, const void *data, struct err *err);
int image_read_parts(const struct chunk_ref *c, void *buf, chunk_taker *take, void *arg, struct err *err);

/* Sequential: the next chunk that the file holds, early ones too; ret->piece is valid until the next call.
 * 0, or -ENODATA after the last one (then the index and the footer have been read and checked). Works
 * on both kinds of source. */
int image_next_chunk(struct image *im, struct chunk_ref *ret, void *buf, struct err *err);

/* lookup.c: what the memory of an Mm or Object holds, by address. Images from seekable sources. */
struct image_lookup;
/* Its chunks, which stand together: how many, from *ret_first of im->chunk on. */
size_t image_chunks_of(const struct image *im, uint32_t owner, size_t *ret_first);
int image_lookup_new(const struct image *im, uint32_t owner, struct image_lookup **ret,
		     struct err *err);
void image_lookup_free(struct image_lookup *l);
/* Is there a page with these bytes at addr? 1, 0 (also: it has no bytes), or -errno. Thread-safe. */
int image_lookup_compare(struct image_lookup *l, uint64_t addr, const void *page, struct err *err);
/* The first pages from *addr on of which there is something: [*addr, *ret_end). */
bool image_lookup_next(const struct image_lookup *l, uint64_t *addr, uint64_t *ret_end);

/* Checks everything: all checksums, all references, index against chunks, the end; of all layers. */
int image_verify(struct source *s, struct parent_finder *finder, struct err *err);

#endif
