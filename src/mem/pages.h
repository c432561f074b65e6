/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside of src/mem: from mappings to chunks. The words, in the order of the way that pages take:
 *   run      contiguous populated pages of one mapping
 *   group    some MiB of runs, the unit of work of a twin
 *   chunks   what of a group is to be stored, as extents
 *   job      one chunk on its way through the workers (compressed output)
 */
#ifndef CPX_MEM_PAGES_H
#define CPX_MEM_PAGES_H

#include "base/util.h"
#include "base/hash.h"
#include "mem/mem.h"

#include <pthread.h>

/* ---- select.c ---- */

/* A part of pages_select(): stops after some max pages (0: any number) or work, at *ret_end. */
int pages_select_some(int pagemap_fd, uint64_t start, uint64_t end, uint64_t max,
		      struct page_ranges *out, uint64_t *ret_end, struct err *err);

/* Appends [start, end), which must not lie before what is there. */
int page_ranges_add(struct page_ranges *out, uint64_t start, uint64_t end);

/* As pages_select(), with the guard pages apart. */
int pages_select_apart(int pagemap_fd, uint64_t start, uint64_t end, struct page_ranges *out,
		       struct page_ranges *guards, struct err *err);

/* ---- ranges.c: out must be empty; -ENOMEM ---- */

int page_ranges_union(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out);
int page_ranges_common(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out);
int page_ranges_minus(const struct page_ranges *a, const struct page_ranges *b, struct page_ranges *out);

/* ---- pageknown.c ---- */

enum page_state {
	PAGE_UNKNOWN, /* not stored, or changed since */
	PAGE_STORED,  /* as it is now */
	PAGE_ZERO,    /* was looked at and is all zero: nothing is stored */
};

struct page_known {
	struct known_block **block; /* ascending */
	size_t n, max;
};

int page_known_set(struct page_known *k, uint64_t addr, uint64_t len, enum page_state state);
/* The state of the page at addr, and how far (at most to end) the next ones are in the same, or less. */
enum page_state page_known_get(const struct page_known *k, uint64_t addr, uint64_t end,
			       uint64_t *ret_end);
void page_known_release(struct page_known *k);

/* ---- pageplan.c ---- */

/* So that a batch holds the scans of one group and the writes of another. */
#define GROUP_RUNS 384

struct page_run {
	uint64_t addr, len;
	const Cpx__Vma *vma;
};

struct page_group {
	struct page_run run[GROUP_RUNS];
	unsigned n; /* 0: there is no more */
	uint64_t bytes;
};

/* Where pages come from: a plan over a task's mappings, or memory copied aside. */
struct page_source {
	/* The next group, of at most max bytes. */
	int (*next)(struct page_source *s, uint64_t max, struct page_group *ret, struct err *err);
	/* Their bytes. */
	int (*read)(struct page_source *s, uint64_t addr, void *buf, size_t len, struct err *err);
};

struct page_plan {
	struct page_source source;
	const Cpx__Mm *mm;
	bool is_aside; /* the mappings that are vma_is_aside(), else the others */
	int pagemap_fd, mem_fd;
	size_t vma;		   /* next mapping to select in */
	const Cpx__Vma *current;   /* NULL at first */
	uint64_t pos;		   /* in current: where to select next */
	struct page_ranges ranges; /* of current, selected and not yet all given out */
	size_t range;
	uint64_t within; /* bytes of ranges.r[range] already given out */
};

/* with_mem: open /proc/PID/mem too, for source.read. */
int page_plan_open(struct page_plan *pl, const Cpx__Mm *mm, bool is_aside, pid_t pid, bool with_mem,
		   struct err *err);
void page_plan_close(struct page_plan *pl);

/* ---- rangesource.c ---- */

/* Exactly len bytes. 0 or -errno. */
int page_mem_read(int mem_fd, uint64_t addr, void *buf, size_t len);
int page_mem_failed(int ret, uint64_t addr, struct err *err); /* says so; returns ret */

struct range_source {
	struct page_source source;
	const struct page_ranges *ranges;
	int mem_fd;
	const Cpx__Mm *mm; /* its mappings hold the ranges, and each run lies in one; NULL: runs are of no mapping */
	struct page_ranges *lost; /* could not be read, and were taken as zeros; NULL: that is an error */
	size_t next;
	uint64_t within;
};
struct range_source range_source(const struct page_ranges *ranges, int mem_fd); /* borrowed */

/* ---- chunks.c ---- */

struct page_chunk {
	size_t first; /* extent */
	unsigned n;
	uint32_t bytes;
};

struct page_chunks {
	struct extent *ext;
	size_t next, max_ext;
	struct page_chunk *chunk;
	size_t n, max;
};

/* Appends [addr, addr + len), merging with the last extent where it touches it and cutting at
 * CHUNK_MAX bytes and EXTENTS_MAX extents. */
int page_chunks_add(struct page_chunks *c, uint64_t addr, uint64_t len);
void page_chunks_clear(struct page_chunks *c);
void page_chunks_release(struct page_chunks *c);

/* The mapping that holds addr, or NULL. */
const Cpx__Vma *vma_at(const Cpx__Mm *mm, uint64_t addr);

/* Extents of a kind of chunk that has no bytes, gathered until there are many. */
struct page_notes {
	enum chunk_kind kind;
	struct extent ext[EXTENTS_MAX];
	unsigned n;
};

int page_notes_add(struct page_notes *l, struct pageout *p, uint32_t mm, uint64_t addr,
		   uint64_t len, struct err *err);
int page_notes_flush(struct page_notes *l, struct pageout *p, uint32_t mm, struct err *err);

/* ---- pagehash.c: contents of mms that have children ---- */

struct page_hashes;
struct page_hash_set; /* of one mm; ascending addresses */

/* The set of an mm, NULL when it is not kept. */
const struct page_hash_set *page_hashes_find(const struct page_hashes *h, uint32_t mm);
/* Starts a set. The pointer is valid until the next start. */
int page_hashes_start(struct page_hashes **h, uint32_t mm, struct page_hash_set **ret);
int page_hash_add(struct page_hash_set *s, uint64_t addr, XXH128_hash_t hash);
bool page_hash_is_equal(const struct page_hash_set *s, uint64_t addr, XXH128_hash_t hash);
void page_hashes_free(struct page_hashes *h);

/* ---- pagejob.c: workers ---- */

struct page_job {
	struct page_job *next;
	uint32_t mm;
	struct page_chunk chunk;
	struct extent *all; /* owned; chunk.n of them */
	uint8_t *data;	    /* chunk.bytes, borrowed; the job may move bytes about in it */
	const struct page_hash_set *parent; /* may be NULL */
	struct image_lookup *lookup;	    /* may be NULL */
	bool want_hashes;
	unsigned slot;
	/* results */
	enum { JOB_QUEUED, JOB_RUNNING, JOB_DONE } state;
	struct hashed_page {
		uint64_t addr;
		XXH128_hash_t hash;
	} *hash; /* of all pages but the zero ones; owned */
	unsigned nhashes;
	struct page_chunks inherited, before, zero; /* their extents only */
	struct extent *stored; /* what remains to be stored; owned */
	unsigned nstored;
	uint32_t stored_bytes;
	struct prepared_chunk *prepared; /* NULL: nothing remains, or it is in data: too little for a chunk */
	int ret;
	struct err err;
};

#define SINK_SLOTS 4
#define SINK_GROUP (8UL << 20)

/* Workers, started as there is work for them, and a ring of SINK_SLOTS * SINK_GROUP bytes for the
 * chunks. */
struct page_pool;
int page_pool_fd(const struct page_pool *pool); /* of the ring, a memfd */
uint8_t *page_pool_ring(const struct page_pool *pool);
int page_pool_new(const struct pageout *p, struct page_pool **ret, struct err *err);
void page_pool_yield(struct page_pool *pool); /* the workers step behind others from now on */
void page_pool_free(struct page_pool *pool);
void page_pool_add(struct page_pool *pool, struct page_job *job); /* takes job */
/* The oldest job, done (here, if no worker has begun it); NULL when there is none. The caller frees
 * it. */
struct page_job *page_pool_take(struct page_pool *pool);
bool page_pool_has_result(struct page_pool *pool); /* the oldest job is done */
void page_job_free(struct page_job *job);

/* ---- pagesink.c: chunks in memory to the image, through the workers ---- */

struct page_sink {
	struct pageout *p;
	const Cpx__Mm *mm;
	const struct page_hash_set *parent;
	struct image_lookup *lookup; /* of the parent image; NULL: this is no delta */
	struct page_hash_set *own;
	unsigned slot; /* the one in use next */
	unsigned pending[SINK_SLOTS]; /* jobs that still need the slot */
	struct page_notes inherit, before, zero;
	/* Of a delta: what little remains of one chunk is put together with that of others. */
	struct page_pack {
		uint8_t *data; /* CHUNK_MAX */
		struct extent ext[EXTENTS_MAX];
		unsigned n;
		uint32_t bytes;
	} pack;
};

int page_sink_open(struct page_sink *s, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		   struct err *err);
/* A free slot of SINK_GROUP bytes; waits until its former content is in the image. */
int page_sink_slot(struct page_sink *s, unsigned *ret_slot, struct err *err);
uint8_t *page_sink_data(const struct page_sink *s, unsigned slot);
/* The bytes of the chunks, zero pages and all, are back to back in the slot: to be stored. */
int page_sink_put(struct page_sink *s, unsigned slot, const struct page_chunks *c, struct err *err);
int page_sink_finish(struct page_sink *s, struct err *err); /* everything is in the image */
void page_sink_close(struct page_sink *s);

/* ---- pagecopy.c: pages that cpx reads itself ---- */

int page_copy(struct page_sink *s, struct page_source *from, struct err *err);
bool page_is_zero(const void *page);

/* ---- aside.c ---- */

/* Copies all that a source gives. The source's mappings must live as long as the copy. */
int aside_take(struct page_source *from, struct aside **ret, struct err *err);
int aside_write_all(struct aside *a, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		    struct err *err);

/* ---- guard.c ---- */

int guards_add(Cpx__Mm *mm, const struct page_ranges *guards, struct err *err);

/* ---- track.c ---- */

struct track {
	pid_t pid;
	uint32_t early;
	int dir, pagemap_fd, mem_fd; /* of /proc/PID */
	int uffd;
	bool sees_holes; /* what the kernel can do: trackhole.c */
	struct page_ranges span;  /* what is watched */
	struct page_ranges dirty; /* changed before it was protected last; not stored yet */
	bool is_relaxed;	  /* track_relax() has been through */
	struct page_known known;
	/* while frozen, and until it is written */
	struct page_ranges open;   /* what may have changed, populated or not */
	struct page_ranges before; /* what is as stored */
	struct aside *aside;	   /* what is not */
	uint64_t taken_bytes;
};

/* What of [start, end) is not as it was when protected, or not populated. -EPERM, without words: not all
 * of it is watched. */
int track_find_open(const struct track *t, uint64_t start, uint64_t end, struct page_ranges *out,
		    struct err *err);

bool track_may_watch(const struct proc_vma *v);
/* A whole mapping, while frozen. False: it cannot be watched. */
bool track_register(const struct track *t, uint64_t start, uint64_t end);
int track_open(struct track *t, struct err *err); /* its files in /proc */
/* Frozen, after track_open(): all that can be watched is, also what has come since or has taken the place of
 * something; ->span is what is watched by us and nobody else. */
int track_watch_all(struct track *t, struct err *err);
/* Protects ->open, while frozen. */
int track_protect_open(struct track *t, struct err *err);

/* ---- trackhole.c: where the kernel errs ---- */

/* Does PAGEMAP_SCAN say of a range without page tables that it may have been written to? */
bool track_sees_holes(void);
/* To out: what of [start, end) is in open, and what has no page table. -EPERM, without words: not all of it is watched. */
int track_add_holes(const struct track *t, uint64_t start, uint64_t end, const struct page_ranges *open,
		    struct page_ranges *out, struct err *err);
/* ---- trackend.c ---- */

/* All that is protected in the range. -EPERM: not all of it is watched. */
int track_unprotect(const struct track *t, uint64_t start, uint64_t end);
void track_pause(void); /* lets those in who wait for the mmap_lock of the task */

/* ---- twinlink.c ---- */

/* Gives the twin a duplicate of fd; *ret_fd is its number there, for as long as the twin lives. */
int twin_send_fd(struct twin *w, int fd, int *ret_fd, struct err *err);
/* How far into a file the twin may write: its task's RLIMIT_FSIZE, raised as far as it may be. */
uint64_t twin_file_limit(struct twin *w);

/* ---- twinhash.c: XXH3-64 by a twin ---- */

/* Adds the secret to the data of a batch; returns its address there, which is good for all hashes of the batch. */
uint64_t twin_hash_secret(struct batch *b);
/* Adds a call that hashes the pages of an array of struct iovec; returns what twin_hash_result() wants. */
uint64_t twin_hash_add(struct batch *b, uint64_t iovec, uint64_t bytes, uint64_t remote_secret);
uint64_t twin_hash_result(const struct batch *b, uint64_t acc, uint64_t bytes);

/* ---- pagepush.c: the twin pushes its pages ---- */

/* Planned, looked through, being written, written. */
#define PUSH_DEPTH 4

struct push_group {
	struct page_group pages;
	struct page_chunks chunks;
	uint64_t *at;	  /* by chunk: where in the file it goes */
	uint64_t *sum;	  /* by chunk: XXH3-64, once it is written */
	unsigned *handle; /* by chunk: for the ops */
	size_t max_at, max_sum, max_handle;
	unsigned slot;
};

/* What becomes of the pages. All run in the calling thread, for one group after the other. */
struct push_ops {
	/* Sets g->at of all chunks: they will be written soon. */
	int (*place)(void *to, struct push_group *g, struct err *err);
	/* They are written: before the twin is given more to do, and afterwards. Both may be NULL. */
	int (*before)(void *to, struct push_group *g, struct err *err);
	int (*after)(void *to, struct push_group *g, struct err *err);
	/* A stretch of zero pages. NULL: the twin does not look for them, they are written like the
	 * others. */
	int (*zero)(void *to, const struct page_run *run, uint64_t addr, uint64_t len,
		    struct err *err);
	uint64_t group_bytes;
	bool gives_back; /* the twin drops what is written: worth it where it waits for us anyway */
	bool has_sums;	 /* the twin makes g->sum */
};

int page_push(struct pageout *p, struct twin *w, struct page_source *from, int remote_fd,
	      const struct push_ops *ops, void *to, struct err *err);

/* ---- pagedirect.c: raw into a regular file ---- */

/* remote_fd: the twin's number of p->out_fd. */
int page_direct(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct page_plan *plan,
		struct twin *w, int remote_fd, struct err *err);

/* ---- pageout.c ---- */

/* From anything that can be read, aside pages too. */
int page_copy_out(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct page_source *from,
		  struct err *err);

/* The pages of a source that a twin has; through the ring. */
int pageout_twin_source(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
			struct page_source *from, struct err *err);

/* Every group: progress, and whether to go on. */
int pageout_step(struct pageout *p, uint64_t bytes, struct err *err);

#endif
