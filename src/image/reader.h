/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the reader's files share: the private part of an open image, the schema's rules and the
 * checks of references. */
#ifndef CPX_IMAGE_READER_H
#define CPX_IMAGE_READER_H

#include "image/format.h"
#include "base/hash.h"

/* Sorted ids of one kind of record. */
struct id_map {
	struct id_entry {
		uint32_t id;
		void *msg;
		size_t rank; /* place among the records of its kind */
	} * entry;
	size_t n;
};

/* Sorts; a duplicate or a zero is an error that names kind. */
int id_map_build(struct id_map *m, void *const *msg, size_t n, size_t id_offset, const char *kind,
		 struct err *err);
const struct id_entry *id_map_find(const struct id_map *m, uint32_t id);
void id_map_release(struct id_map *m);

/* Which pages of one object have gone by: chunks of an object come together. */
struct seen_pages {
	uint32_t object;
	struct extent *ext;
	size_t n, max;
};

/* filters.c: by id, from 1. */
struct filter_list {
	struct filter_entry *entry;
	size_t n, max;
};

enum image_map { MAP_TASKS, MAP_MMS, MAP_OBJECTS, MAP_FD_TABLES, MAP_FILES, IMAGE_MAPS };

struct image_private {
	ProtobufCAllocator allocator;
	uint64_t allocated, allocated_max; /* bytes held by unpacked records */
	struct id_map map[IMAGE_MAPS];
	struct id_map tids; /* of all threads; msg is the Cpx__Task */
	struct filter_list filters;
	uint8_t head[CHUNK_HEAD_MAX];
	bool has_head; /* head holds the frame at pos, read ahead */
	uint64_t pos;  /* of the next frame */
	uint32_t nrecords;
	XXH3_state_t *records_hash, *index_hash; /* of what has gone by */
	XXH3_state_t *file_hash;		 /* of the index as it is in the file */
	uint64_t nchunks_read, index_length;	 /* of the chunks seen by image_next_chunk() */
	struct seen_pages seen; /* of a stream; files are checked when they are opened */
	size_t last_rank;	/* order of chunks: see validate_chunk() */
	bool is_at_end;
	struct piece *pieces; /* of all of image->stored */
	struct piece **resolved; /* of those of image->chunk that are not among them */
	size_t nresolved, max_resolved;
	size_t pieces_used;
	uint8_t *index; /* while it is opened */
	size_t index_at; /* next entry */
	struct format_index index_head;
	uint64_t index_offset;
	uint64_t early_end, records_end; /* offsets */
	bool owns_source; /* of a parent */
	struct piece next_pieces[EXTENTS_MAX];
	uint8_t *scratch; /* of image_next_chunk(), for compressed bytes */
	size_t scratch_max;
};

/* stream.c: errors of images, and reads in which the end of the source is damage (-EBADMSG;
 * -ENODATA is left for image_next_chunk()). */
int image_corrupt(struct err *err, const char *what);
int image_bad(struct err *err, const char *kind, uint32_t id, const char *what);
int image_read_at(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err);
/* Reads the fixed part of the frame at ->pos into ->head, once. */
int image_read_head(struct image *im, struct err *err);

/* rules.c: a record by itself, by tables over the schema's descriptors. */
int rules_check(const ProtobufCMessage *msg, struct err *err);

/* externals.c: of one File. */
int validate_external(const Cpx__File *f, struct err *err);
/* rings.c: is this a mapping of an io_uring; is f, if it is an io_uring, one that can be? */
bool rings_fit(const struct image *im, const Cpx__Vma *v);
bool rings_are_sound(const struct image *im, const Cpx__File *f);
/* Has every ring of asynchronous I/O its context? */
bool rings_have_contexts(const Cpx__Mm *mm);

/* reader.c: opens s as the parent of im, within what is left of its budget; takes s. */
int reader_open_parent(struct source *s, struct image *im, struct err *err);

/* layers.c: makes ->chunk out of what the image and its parents hold. */
int layers_resolve(struct image *im, struct err *err);

/* validate.c: references from record to record. Fills the maps. */
int validate_records(struct image *im, struct err *err);
/* filters.c: the chains of seccomp filters; fills ->filters. */
int filters_check(struct image *im, struct err *err);
void filters_release(struct filter_list *l);
/* validate_ipc.c: SysV semaphores and message queues, and what the tasks refer to of them. */
int validate_ipc(const struct image *im, struct err *err);
/* Is [start, end) covered without gaps by mappings (by private ones)? */
bool mm_covers(const Cpx__Mm *mm, uint64_t start, uint64_t end, bool by_private);
/* References of one chunk to the records, and its place after those seen before; not of early ones. */
int validate_chunk(const struct image *im, const struct chunk_ref *c, size_t *last_rank,
		   struct err *err);
/* No page comes twice: adds what a chunk has; an object is checked when the next one begins, the
 * last one by seen_pages_finish(). */
int seen_pages_add(struct seen_pages *p, const struct chunk_ref *c, struct err *err);
int seen_pages_finish(struct seen_pages *p, struct err *err);
/* All chunks of a seekable image but the early ones: also that no page comes twice. */
int validate_chunks(const struct image *im, struct err *err);

#endif
