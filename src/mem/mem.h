/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory: VMAs, page selection, page streams out of a dump and into a restore. */
#ifndef CPX_MEM_MEM_H
#define CPX_MEM_MEM_H

#include "base/err.h"
#include "image/image.h"
#include "tracee/tracee.h"

/* ---- vma.c: the mappings of a task, from /proc/PID/smaps (flags) ---- */
/* Cpx__Vma.vm_flags */
enum vma_flag {
	VMA_LOCKED = 1 << 0,
	VMA_LOCKONFAULT = 1 << 1,
	VMA_DONTFORK = 1 << 2,
	VMA_WIPEONFORK = 1 << 3,
	VMA_DONTDUMP = 1 << 4,
	VMA_HUGEPAGE = 1 << 5,
	VMA_NOHUGEPAGE = 1 << 6,
	VMA_MERGEABLE = 1 << 7,
	VMA_SEQUENTIAL = 1 << 8,
	VMA_RANDOM = 1 << 9,
	VMA_NORESERVE = 1 << 10,
	/* MAP_DROPPABLE: its pages are never stored, they may vanish at any time anyway. */
	VMA_DROPPABLE = 1 << 11,
};

struct proc_vma;
/* Mappings that the kernel itself puts into every address space (vdso, vvar ..., vsyscall): no Vma
 * record. */
bool vma_is_special(const struct proc_vma *v);
/* What smaps alone tells of a mapping (v->has_flags; not special): range, prot, offset, grows_down,
 * vm_flags, name, hugepage_shift and kind. vma is initialised, its file and object are left for the
 * caller, who also refuses what kind cannot express: devices (PVM_IO, PVM_PFNMAP, PVM_MIXEDMAP),
 * userfaultfd, pkeys, sealed, shadow stacks.
 *
 * Private: ANON (also of /dev/zero), FILE_PRIVATE, HUGETLB. Shared: SHM_ANON, SYSV, HUGETLB_SHARED
 * (anonymous), FILE_SHARED (files and memfds, hugetlbfs files too). */
int vma_from_proc(const struct proc_vma *v, Cpx__Vma *vma, struct err *err);
/* A few words on why cpx cannot carry the mapping ("is a device's memory"), NULL if nothing in its
 * flags forbids it. */
const char *vma_obstacle(const struct proc_vma *v);

/* ---- select.c: which pages of a private mapping hold data of their own ---- */
struct page_range {
	uint64_t addr, len;
};
struct page_ranges {
	struct page_range *r;
	size_t n, max;
	uint64_t bytes;
};
/* Pages of [start, end) that are private and populated (anonymous, present or swapped; not the
 * shared zero page; not pages of the backing file). pagemap_fd: /proc/PID/pagemap. PAGEMAP_SCAN, or
 * pagemap entries where the kernel lacks it or CPX_DENY names it. Guard pages are refused:
 * -EOPNOTSUPP. */
int pages_select(int pagemap_fd, uint64_t start, uint64_t end, struct page_ranges *out,
		 struct err *err);
void page_ranges_release(struct page_ranges *p);
/* Of ascending ranges, the first that ends above addr, or NULL. */
const struct page_range *page_range_at(const struct page_ranges *p, uint64_t addr);

/* ---- guard.c ---- */

/* Adds the guard pages that a task that does not run has, a twin or a frozen task, to mm->guard: those
 * in mappings that a twin has (is_aside false), or in those that it lacks (see aside_copy()). */
int guards_find(Cpx__Mm *mm, pid_t pid, bool is_aside, struct err *err);

/* ---- pageout.c: one mm's private memory to the image ----
 *
 * What is stored: the pages of private mappings that are populated, are not zero, and (where the mm
 * has a parent_mm that went out before it through the same struct pageout) differ from the parent's
 * page at the same address. Equal ones become CHUNK_INHERIT; zero pages of private file mappings
 * CHUNK_ZERO, other zero pages nothing. Mappings that vma_is_aside() are left to aside_write(),
 * whichever of the two functions wrote the rest. Memory use is bounded (some 64 MiB) but for 24
 * bytes a page of mms that have children. */
struct pageout_stats {
	uint64_t pages, zero_pages, inherited_pages, bytes;
	uint64_t before_pages; /* named, and stored earlier */
	uint64_t unchanged_pages; /* named, and in the parent image */
};
struct pageout {
	struct image_writer *w;
	const struct image_writer_options *options;
	/* -1: not seekable or not raw. Else, open for reading too: twins write there themselves. */
	int out_fd;
	unsigned workers;	    /* threads that compress; 0: all in the calling thread */
	bool is_background;	    /* the workers step behind others: pageout_yield() */
	uint64_t group_max;	    /* bytes that a twin writes at once; 0: as is best */
	/* The parent image of a delta, or NULL: pages of an mm with before_mm that are the same there
	 * become CHUNK_BEFORE. */
	const struct image *before;
	struct page_hashes *hashes; /* of finished mms that have children, for CHUNK_INHERIT */
	struct page_pool *pool;	    /* the workers; made when first needed */
	struct page_known *known;   /* of the mm that is written: notes what becomes of its pages; or NULL */
	struct pageout_stats stats;
	uint64_t done_bytes; /* of memory looked at, stored or not */
	/* May be NULL; called from the calling thread. */
	void (*progress)(void *data, uint64_t done_bytes);
	void *progress_data;
};
/* From a twin, which pushes its pages itself and loses them: once only. has_children: some other mm
 * names this one as parent_mm. */
int pageout_twin(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
		 struct err *err);
/* The fallback, several times slower: from the frozen task itself (any stopped task with these
 * mappings) by /proc/PID/mem, which unlike process_vm_readv(2) leaves shared pages shared. */
int pageout_frozen(struct pageout *p, const Cpx__Mm *mm, bool has_children, pid_t pid,
		   struct err *err);
void pageout_yield(struct pageout *p);	 /* the workers step behind others from now on */
void pageout_release(struct pageout *p); /* ends the workers */

/* ---- unforked.c: private mappings that a twin has only because it is asked for: MADV_DONTFORK ----
 * *ret is allocated. */
int unforked_list(const Cpx__Mm *mm, struct unforked **ret, size_t *ret_n, struct err *err);

/* ---- aside.c: mappings that a twin has empty or cannot hold still (WIPEONFORK,
 * private hugetlb): copied aside while frozen, written right after the mm's pageout_*(). */
struct aside;
bool vma_is_aside(const Cpx__Vma *v);
/* *ret is NULL if there is nothing. */
int aside_copy(const Cpx__Mm *mm, pid_t pid, struct aside **ret, struct err *err);
int aside_write(struct aside *a, struct pageout *p, const Cpx__Mm *mm, struct err *err);
void aside_free(struct aside *a);

/*
 * ---- track.c, trackcopy.c, trackend.c: write tracking of an address space that runs ----
 *
 * Its private anonymous memory is write-protected for a userfaultfd, with nobody to wake: the kernel
 * itself takes the protection off a page that is written to, and whatever is not protected may
 * have changed. The order, round by round: track_mark(), then a moment at which all threads are
 * outside of the kernel (see there), then track_store(); at last, while the tree is frozen, track_take().
 */
struct track;
/* uffd: of tracee_watch(); taken, even on failure. early: the number of its early chunks. The task must be
 * frozen. */
int track_new(pid_t pid, int uffd, uint32_t early, struct track **ret, struct err *err);
/* Frozen: what is large and has come since is watched as well. */
int track_watch_new(struct track *t, struct err *err);
/* Protects what was written to since it was protected last; *ret_bytes of it are to be stored now.
 * What the kernel writes to by itself, into pages that it has looked up before (O_DIRECT), is not seen:
 * before track_store() all threads must have left the system calls that they were in. */
int track_mark(struct track *t, uint64_t *ret_bytes, struct err *err);
/* Stores it as early chunks. What has gone meanwhile is left out. */
int track_store(struct track *t, struct pageout *p, struct err *err);
/* Frozen: copies aside what changed since it was stored. mm: its record, as it will be written. Guard
 * pages are added to it. again: go on watching, for a next time. */
int track_take(struct track *t, Cpx__Mm *mm, bool again, struct err *err);
uint64_t track_taken_bytes(const struct track *t);
/* Writes what was taken, and what is as before. */
int track_write(struct track *t, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		struct err *err);
/* Did it watch any of [start, end) at the last stop? */
bool track_watches(const struct track *t, uint64_t start, uint64_t end);
/* Of a whole mapping, while frozen, that is watched by somebody: by it? */
bool track_owns(const struct track *t, uint64_t start, uint64_t end);
uint32_t track_early(const struct track *t);
pid_t track_pid(const struct track *t);
/* The end, in two steps, so that the task need not wait for the kernel to walk over all its pages: while it runs, and
 * then while it stands, soon after. */
void track_relax(struct track *t);
void track_end(struct track *t);
void track_free(struct track *t); /* ends it in any case; NULL is fine */

/*
 * ---- trackdelta.c: the same from one image to the next ----
 *
 * tracked_mark() while the task runs; in each freeze tracked_advance(), then, for a delta, tracked_take(); when the image
 * is complete tracked_settle(). An image that fails has no tracked_settle(): what has changed stays owed to the next.
 */
struct tracked;
/* uffd: of tracee_watch(); taken, even on failure. The task must be frozen. */
int tracked_new(pid_t pid, int uffd, struct tracked **ret, struct err *err);
void tracked_free(struct tracked *d); /* ends it; NULL is fine */
struct track *tracked_track(const struct tracked *d); /* for its end, see track_relax() */
pid_t tracked_pid(const struct tracked *d);
bool tracked_watches(const struct tracked *d, uint64_t start, uint64_t end);
/* Frozen: does the task still have the address space that is watched? */
bool tracked_is_alive(struct tracked *d);
/* Protects again what was written to, so that there is less to do in the freeze. */
int tracked_mark(struct tracked *d, struct err *err);
/* Frozen: notes what may have changed; from here on the next changes are looked for. mm: its record. */
int tracked_advance(struct tracked *d, const Cpx__Mm *mm, struct err *err);
/* The id of its Mm in the last image that was completed; 0: there is none to build on. */
uint32_t tracked_stored(const struct tracked *d);
/* Frozen, after tracked_advance(), with tracked_stored(): copies aside what has changed since that image, or finds that
 * a twin is better. Guard pages are added to mm. */
int tracked_take(struct tracked *d, Cpx__Mm *mm, struct err *err);
bool tracked_wants_twin(const struct tracked *d);
/* Writes it, and what is as before. p->before is that image. w: NULL if no twin is wanted, or the task is still
 * frozen. */
int tracked_write(struct tracked *d, struct pageout *p, const Cpx__Mm *mm, bool has_children, struct twin *w,
		  struct err *err);
/* The image is complete. mm: the id of the Mm in it; 0: what changes from now on may not all be seen. */
void tracked_settle(struct tracked *d, uint32_t mm);

/* ---- fill.c: chunks into the private memory of a task under construction ---- */
struct fill_target {
	pid_t pid;
	int mem_fd; /* /proc/PID/mem, for file mappings and pages that exist already */
	/* userfaultfd of that mm, fresh anonymous mappings registered MISSING; -1: by mem_fd. */
	int uffd;
	const Cpx__Mm *mm;
	/* Is the page at addr in an anonymous mapping that is new (registered, if uffd is there)? Lowers
	 * *end to where the answer changes. */
	bool (*is_fresh)(uint64_t addr, uint64_t *end, void *arg);
	void *arg;
};
/* Fills [addr, addr + len), which may reach over several mappings: by UFFDIO_COPY where it is fresh, by
 * mem_fd elsewhere. data NULL: with zeros. Thread-safe. */
int fill_range(const struct fill_target *t, uint64_t addr, uint64_t len, const void *data,
	       struct err *err);
/* The same for the pieces of one chunk, of which data holds all bytes. */
int fill_chunk(const struct fill_target *t, const struct chunk_ref *c, const void *data,
	       struct err *err);

#endif
