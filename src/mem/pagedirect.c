/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Raw chunks into a regular file: the twin writes them to places reserved in the image and makes
 * their checksums. Only for the hashes of pages, for the sake of children, cpx reads them back while
 * the twin writes on. It does not write before the twin is done: each write would wait for the inode's
 * lock, and the twin for it.
 *
 * Pages of a file on tmpfs are charged to the memory cgroup of who first touches them (mm/shmem.c).
 * So that a dump does not eat up the limit of its target's group, cpx allocates them itself where
 * the twin is in another group than cpx.
 */
#include "mem/pages.h"

#include "proc/proc.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

struct direct {
	struct pageout *p;
	const Cpx__Mm *mm;
	struct page_hash_set *own;
	struct page_notes zero;
	uint8_t *buf; /* CHUNK_MAX */
	bool is_tmpfs, must_allocate;
	struct finished {
		unsigned handle;
		uint64_t checksum;
	} *finished;
	size_t n, max;
};

static int allocate(const struct direct *d, const struct push_group *g, struct err *err)
{
	size_t last = g->chunks.n - 1;
	uint64_t start = g->at[0], end = g->at[last] + g->chunks.chunk[last].bytes;

	if (!d->must_allocate ||
	    fallocate(d->p->out_fd, FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start)) == 0 ||
	    errno == EOPNOTSUPP)
		return 0;
	return err_sys(err, -errno, "cannot write the image");
}

static int direct_place(void *to, struct push_group *g, struct err *err)
{
	struct direct *d = to;
	int r = 0;

	for (size_t i = 0; i < g->chunks.n && r == 0; i++) {
		const struct page_chunk *c = &g->chunks.chunk[i];

		r = image_reserve_chunk(d->p->w, d->mm->id, g->chunks.ext + c->first, c->n,
					&g->at[i], &g->handle[i], err);
	}
	return r < 0 ? r : allocate(d, g, err);
}

static int read_back(const struct direct *d, uint64_t at, size_t len, struct err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(d->p->out_fd, d->buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO, "cannot read the image back");
		done += (size_t)n;
	}
	return 0;
}

static int hash_pages(const struct direct *d, const struct extent *e, unsigned n,
		      const uint8_t *page)
{
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++)
		for (uint64_t at = 0; at < e[i].len && r == 0; at += CPX_PAGE_SIZE) {
			r = page_hash_add(d->own, e[i].addr + at,
					  XXH3_128bits(page, CPX_PAGE_SIZE));
			page += CPX_PAGE_SIZE;
		}
	return r;
}

static int add_finished(struct direct *d, const struct push_group *g, size_t i)
{
	const struct page_chunk *c = &g->chunks.chunk[i];

	if (grow(&d->finished, &d->max, d->n, sizeof(*d->finished)) < 0)
		return -ENOMEM;
	d->finished[d->n++] = (struct finished){g->handle[i], g->sum[i]};
	d->p->stats.pages += c->bytes / CPX_PAGE_SIZE;
	d->p->stats.bytes += c->bytes;
	return 0;
}

/* On tmpfs a mapping saves a copy. Elsewhere it might fault on an I/O error. */
static uint8_t *map_group(const struct direct *d, const struct push_group *g, uint64_t *ret_start,
			  uint64_t *ret_len)
{
	size_t last = g->chunks.n - 1;
	uint64_t end = g->at[last] + g->chunks.chunk[last].bytes;
	void *p;

	if (!d->is_tmpfs)
		return NULL;
	*ret_start = ALIGN_DOWN(g->at[0], CPX_PAGE_SIZE);
	*ret_len = end - *ret_start;
	p = mmap(NULL, *ret_len, PROT_READ, MAP_SHARED, d->p->out_fd, (off_t)*ret_start);
	return p == MAP_FAILED ? NULL : p;
}

/* The hashes of pages of a group that is written. */
static int hash_group(struct direct *d, const struct push_group *g, struct err *err)
{
	uint64_t start = 0, len = 0;
	uint8_t *map = map_group(d, g, &start, &len);
	int r = 0;

	for (size_t i = 0; i < g->chunks.n && r == 0; i++) {
		const struct page_chunk *c = &g->chunks.chunk[i];

		if (!map)
			r = read_back(d, g->at[i], c->bytes, err);
		if (r == 0 && hash_pages(d, g->chunks.ext + c->first, c->n,
					 map ? map + (g->at[i] - start) : d->buf) < 0)
			r = err_nomem(err);
	}
	if (map)
		munmap(map, len);
	return r;
}

static int direct_after(void *to, struct push_group *g, struct err *err)
{
	struct direct *d = to;

	for (size_t i = 0; i < g->chunks.n; i++)
		if (add_finished(d, g, i) < 0)
			return err_nomem(err);
	return d->own ? hash_group(d, g, err) : 0;
}

static int direct_zero(void *to, const struct page_run *run, uint64_t addr, uint64_t len,
		       struct err *err)
{
	struct direct *d = to;

	d->p->stats.zero_pages += len / CPX_PAGE_SIZE;
	if (run->vma->kind != CPX__VMA__KIND__FILE_PRIVATE)
		return 0;
	return page_notes_add(&d->zero, d->p, d->mm->id, addr, len, err);
}

static const struct push_ops direct_ops = {
	.place = direct_place,
	.after = direct_after,
	.zero = direct_zero,
	.group_bytes = 16UL << 20,
	.has_sums = true,
};

static bool is_on_tmpfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static bool is_of_our_cgroup(pid_t pid)
{
	_cleanup_close_ int ours = -1, theirs = -1;
	_cleanup_free_ char *a = NULL, *b = NULL;
	size_t n;

	return proc_open(-1, getpid(), 0, &ours, NULL) == 0 &&
	       proc_open(-1, pid, 0, &theirs, NULL) == 0 &&
	       proc_read(ours, "cgroup", &a, &n, NULL) == 0 &&
	       proc_read(theirs, "cgroup", &b, &n, NULL) == 0 && !strcmp(a, b);
}

static int finish_all(const struct direct *d, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < d->n && r == 0; i++)
		r = image_finish_chunk(d->p->w, d->finished[i].handle, d->finished[i].checksum,
				       err);
	return r;
}

static int push_and_finish(struct direct *d, struct page_plan *plan, struct twin *w, int remote_fd,
			   struct err *err)
{
	int r = page_push(d->p, w, &plan->source, remote_fd, &direct_ops, d, err);

	if (r == 0)
		r = finish_all(d, err);
	return r < 0 ? r : page_notes_flush(&d->zero, d->p, d->mm->id, err);
}

int page_direct(struct pageout *p, const Cpx__Mm *mm, bool has_children, struct page_plan *plan,
		struct twin *w, int remote_fd, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	struct direct d = {.p = p, .mm = mm, .zero = {.kind = CHUNK_ZERO}, .buf = buf};
	int r;

	if (!buf || (has_children && page_hashes_start(&p->hashes, mm->id, &d.own) < 0))
		return err_nomem(err);
	d.is_tmpfs = is_on_tmpfs(p->out_fd);
	d.must_allocate = d.is_tmpfs && !is_of_our_cgroup(w->pid);
	r = push_and_finish(&d, plan, w, remote_fd, err);
	free(d.finished);
	return r;
}
