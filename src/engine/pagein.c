/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages into the address spaces under construction, each before its task's children are cloned, so
 * that they share them copy-on-write. Large anonymous memory is filled by userfaultfd(2)
 * (UFFDIO_COPY), everything else by writing /proc/PID/mem.
 *
 * An image in a file is read by several workers through its index; a pipe in its own order, which is
 * the order in which tasks are made.
 */
#include "engine/stock.h"

#include "base/kabi.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define UFFD_WORTH (1UL << 20) /* bytes from which a userfaultfd pays */
#define WORKERS_WORTH (1UL << 20)

/* ---- one chunk ------------------------------------------------------------------------------ */

static bool is_fresh(uint64_t addr, uint64_t *end, void *arg)
{
	return keep_is_fresh(arg, addr, end);
}

static struct fill_target fill_target(struct rtask *t)
{
	return (struct fill_target){t->pid, t->mem_fd, t->uffd, t->mm, is_fresh, t};
}

static int note_pages(struct rtask *t, const struct chunk_ref *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		if (grow(&t->pages.r, &t->pages.max, t->pages.n, sizeof(*t->pages.r)) < 0)
			return -ENOMEM;
		t->pages.r[t->pages.n++] = (struct page_range){c->piece[i].addr, c->piece[i].len};
	}
	return 0;
}

/* Pages equal to the parent's that could not be kept (the mapping is another one): copied from it. */
static int copy_from_parent(struct rtask *t, uint64_t addr, uint64_t len, struct err *err)
{
	static const size_t step = 64 << 10;
	struct fill_target target = fill_target(t);
	_cleanup_free_ uint8_t *buf = malloc(step);

	if (!buf)
		return err_nomem(err);
	while (len) {
		size_t n = MIN(len, step);
		int r;

		if (pread(t->parent->mm_owner->mem_fd, buf, n, addr) != (ssize_t)n)
			return err_sys(err, -errno, "cannot read memory at %#llx of the parent",
				       (unsigned long long)addr);
		r = fill_range(&target, addr, n, buf, err);
		if (r < 0)
			return r;
		addr += n;
		len -= n;
	}
	return 0;
}

/* The parts of [addr, addr + len) that are not kept. */
static int inherit_extent(struct rtask *t, uint64_t addr, uint64_t len, struct err *err)
{
	uint64_t end = addr + len;

	for (size_t i = 0; i < t->kept.n && addr < end; i++) {
		const struct page_range *k = &t->kept.r[i];
		int r;

		if (k->addr + k->len <= addr || k->addr >= end)
			continue;
		r = k->addr > addr ? copy_from_parent(t, addr, k->addr - addr, err) : 0;
		if (r < 0)
			return r;
		addr = k->addr + k->len;
	}
	return addr < end ? copy_from_parent(t, addr, end - addr, err) : 0;
}

static int inherit_chunk(struct rtask *t, const struct chunk_ref *c, struct err *err)
{
	int r = 0;

	if (!t->parent)
		return err_set(err, -EBADMSG, "the root's memory refers to a parent");
	for (unsigned i = 0; i < c->n && r == 0; i++)
		r = inherit_extent(t, c->piece[i].addr, c->piece[i].len, err);
	return r;
}

static int fill_one(struct rtask *t, const struct chunk_ref *c, const void *data, struct err *err)
{
	struct fill_target target = fill_target(t);

	if (c->kind == CHUNK_INHERIT)
		return inherit_chunk(t, c, err);
	return fill_chunk(&target, c, data, err);
}

/* ---- userfaultfd ---------------------------------------------------------------------------- */

static int register_piece(struct rtask *t, uint64_t start, uint64_t end, struct err *err)
{
	struct uffdio_register reg = {.range = {start, end - start},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (start < end && ioctl(t->uffd, UFFDIO_REGISTER, &reg) < 0)
		return err_sys(err, -errno, "cannot register %#llx-%#llx with userfaultfd",
			       (unsigned long long)start, (unsigned long long)end);
	return 0;
}

static int register_vma(struct rtask *t, const Cpx__Vma *v, struct err *err)
{
	uint64_t at = v->start;
	int r = 0;

	for (size_t i = 0; i < t->kept.n && r == 0; i++) {
		const struct page_range *k = &t->kept.r[i];

		if (k->addr + k->len <= at || k->addr >= v->end)
			continue;
		r = register_piece(t, at, k->addr, err);
		at = k->addr + k->len;
	}
	return r < 0 ? r : register_piece(t, at, v->end, err);
}

/* In the task itself, then taken over: a userfaultfd belongs to the mm that makes it. Faults of the kernel on
 * these pages do not happen: nothing runs there before they are filled. */
static int make_uffd(struct remote *r, struct rtask *t, struct err *err)
{
	return REMOTE_CALL(r, NULL, err, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

static int take_uffd(struct remote *r, struct rtask *t, struct err *err)
{
	struct uffdio_api api = {.api = UFFD_API};
	int ret = 0;

	if (batch_ret(&r->b, 0) < 0)
		return 0; /* not to be had here: written by /proc/PID/mem */
	t->uffd_there = batch_ret(&r->b, 0);
	t->uffd = syscall(SYS_pidfd_getfd, t->pidfd, t->uffd_there, 0);
	if (t->uffd < 0)
		return err_sys(err, -errno, "cannot take over the userfaultfd");
	if (ioctl(t->uffd, UFFDIO_API, &api) < 0)
		return err_sys(err, -errno, "cannot set up userfaultfd");
	for (size_t i = 0; i < t->mm->n_vma && ret == 0; i++)
		if (t->mm->vma[i]->kind == CPX__VMA__KIND__ANON)
			ret = register_vma(t, t->mm->vma[i], err);
	return ret;
}

/* Ours; the task's own, until finish_task(), keeps nothing back but what nobody touches. */
static void end_uffd(struct rtask *t)
{
	if (t->uffd >= 0)
		close(t->uffd);
	t->uffd = -1;
}

/* ---- pages that the parent has and this task has not ------------------------------------------ */

static int by_addr(const void *a, const void *b)
{
	const struct page_range *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

static int zap(struct remote *r, uint64_t start, uint64_t end, struct err *err)
{
	if (start >= end)
		return 0;
	return REMOTE_CALL(r, "drop pages", err, SYS_madvise, start, end - start, MADV_DONTNEED);
}

/* Of [start, end), which the parent has populated, what is not in own. *i: where to go on looking. */
static int zap_missing(struct remote *r, const struct page_ranges *own, size_t *i, uint64_t start,
		       uint64_t end, struct err *err)
{
	int ret = 0;

	while (*i < own->n && own->r[*i].addr + own->r[*i].len <= start)
		++*i;
	for (size_t k = *i; k < own->n && own->r[k].addr < end && ret == 0; k++) {
		ret = zap(r, start, own->r[k].addr, err);
		start = MAX(start, own->r[k].addr + own->r[k].len);
	}
	return ret < 0 ? ret : zap(r, start, end, err);
}

static int zap_kept(struct remote *r, struct rtask *t, const struct page_range *k, size_t *own,
		    struct err *err)
{
	const struct page_ranges *theirs = &t->parent->mm_owner->pages;
	int ret = 0;

	for (size_t i = 0; i < theirs->n && ret == 0; i++) {
		uint64_t start = MAX(theirs->r[i].addr, k->addr);
		uint64_t end = MIN(theirs->r[i].addr + theirs->r[i].len, k->addr + k->len);

		if (theirs->r[i].addr >= k->addr + k->len)
			break;
		if (start < end)
			ret = zap_missing(r, &t->pages, own, start, end, err);
	}
	return ret;
}

static bool is_private(const struct rtask *t, uint64_t addr)
{
	for (size_t i = 0; i < t->mm->n_vma; i++)
		if (t->mm->vma[i]->start <= addr && addr < t->mm->vma[i]->end)
			return t->mm->vma[i]->kind == CPX__VMA__KIND__ANON ||
			       t->mm->vma[i]->kind == CPX__VMA__KIND__FILE_PRIVATE;
	return false;
}

static int drop_stale(struct remote *r, struct rtask *t, struct err *err)
{
	size_t own = 0;
	int ret = 0;

	for (size_t i = 0; i < t->kept.n && ret == 0; i++)
		if (is_private(t, t->kept.r[i].addr))
			ret = zap_kept(r, t, &t->kept.r[i], &own, err);
	return ret;
}

static int finish_task(struct remote *r, struct rtask *t, struct err *err)
{
	int ret = 0;

	if (t->uffd_there >= 0)
		ret = REMOTE_CALL(r, "close the userfaultfd", err, SYS_close, t->uffd_there);
	t->uffd_there = -1;
	return ret == 0 && t->parent ? drop_stale(r, t, err) : ret;
}

/* ---- from a file: by index, with workers ------------------------------------------------------ */

/* Without what is left in the image until the tree runs. */
static const struct chunk_ref *chunk_at(const struct rtree *rt, size_t i)
{
	return rt->lazy ? &rt->lazy->choice.rest[i] : &rt->image->chunk[i];
}

/* The chunks of one object. */
struct share {
	struct rtask *t; /* whose memory it is; NULL: shared memory */
	size_t next, end; /* chunks */
	uint64_t bytes;
};

struct job {
	struct rtree *rt;
	struct share *share;
	size_t n, at;
	pthread_mutex_t lock;
	int ret;
	struct err err;
};

static const struct chunk_ref *next_of(const struct rtree *rt, struct share *s)
{
	while (s->next < s->end) {
		const struct chunk_ref *c = chunk_at(rt, s->next++);

		if (c->n)
			return c;
	}
	return NULL;
}

static const struct chunk_ref *take_chunk(struct job *j, struct rtask **ret_task)
{
	const struct chunk_ref *c = NULL;

	pthread_mutex_lock(&j->lock);
	while (!c && j->ret == 0 && j->at < j->n) {
		*ret_task = j->share[j->at].t;
		c = next_of(j->rt, &j->share[j->at]);
		j->at += !c;
	}
	pthread_mutex_unlock(&j->lock);
	return c;
}

static void job_failed(struct job *j, int ret, const struct err *err)
{
	pthread_mutex_lock(&j->lock);
	if (j->ret == 0) {
		j->ret = ret;
		j->err = *err;
	}
	pthread_mutex_unlock(&j->lock);
}

/* Where the parts of a chunk go. */
struct destination {
	struct rtree *rt;
	struct rtask *t; /* NULL: shared memory */
};

static int fill_part(void *arg, const struct chunk_ref *c, const void *data, struct err *err)
{
	struct destination *d = arg;
	int r = d->t ? fill_one(d->t, c, data, err) : objects_fill(&d->rt->ctx, c, data, err);

	return r < 0 && d->t ? rtask_context(d->t, err) : r;
}

/* What is found damaged at its end is in the memory of a tree that never runs. */
static int do_chunk(struct job *j, struct rtask *t, const struct chunk_ref *c, void *buf, struct err *err)
{
	struct destination d = {j->rt, t};

	__atomic_add_fetch(&j->rt->filled, c->data_len, __ATOMIC_RELAXED);
	return image_read_parts(c, buf, fill_part, &d, err);
}

static void *worker(void *arg)
{
	struct job *j = arg;
	struct err err = ERR_INIT;
	_cleanup_free_ void *buf = malloc(CHUNK_MAX);
	const struct chunk_ref *c;
	struct rtask *t = NULL;
	int r = buf ? 0 : err_nomem(&err);

	while (r == 0 && (c = take_chunk(j, &t)))
		r = do_chunk(j, t, c, buf, &err);
	if (r < 0)
		job_failed(j, r, &err);
	return NULL;
}

static int run_job(struct job *j, uint64_t bytes, struct err *err)
{
	pthread_t thread[64];
	unsigned n = 0, want = bytes < WORKERS_WORTH ? 0 : MIN(j->rt->workers, ARRAY_SIZE(thread)) - 1;

	pthread_mutex_init(&j->lock, NULL);
	while (n < want && pthread_create(&thread[n], NULL, worker, j) == 0)
		n++;
	worker(j);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	pthread_mutex_destroy(&j->lock);
	if (j->ret < 0)
		*err = j->err;
	if (j->rt->progress)
		j->rt->progress(j->rt->progress_data, j->rt->filled);
	return j->ret;
}

static struct share find_share(const struct rtree *rt, struct rtask *t, uint32_t object)
{
	struct share s = {.t = t};

	s.end = image_chunks_of(rt->image, object, &s.next);
	s.end += s.next;
	for (size_t i = s.next; i < s.end; i++)
		if (chunk_at(rt, i)->n)
			s.bytes += rt->image->chunk[i].data_len;
	return s;
}

static int note_share(const struct rtree *rt, const struct share *s, struct err *err)
{
	struct share all = *s;
	const struct chunk_ref *c;

	while ((c = next_of(rt, &all)))
		if (note_pages(s->t, c) < 0)
			return err_nomem(err);
	return 0;
}

/* Those with much to be filled get a userfaultfd. */
static int start_uffds(struct rtree *rt, const struct share *share, size_t n, struct err *err)
{
	_cleanup_free_ struct rtask **task = calloc(n + 1, sizeof(struct rtask *));
	size_t ntasks = 0;

	if (!task)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		if (share[i].bytes >= UFFD_WORTH && share[i].t->uffd < 0)
			task[ntasks++] = share[i].t;
	return remote_each(rt, task, ntasks, make_uffd, take_uffd, err);
}

static int fill_shares(struct rtree *rt, struct share *share, size_t n, struct err *err)
{
	struct job j = {.rt = rt, .share = share, .n = n};
	uint64_t bytes = 0;
	int r = start_uffds(rt, share, n, err);

	for (size_t i = 0; i < n && r == 0; i++) {
		bytes += share[i].bytes;
		r = note_share(rt, &share[i], err);
	}
	if (r == 0)
		r = run_job(&j, bytes, err);
	for (size_t i = 0; i < n; i++)
		end_uffd(share[i].t);
	return r;
}

static int fill_by_index(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	_cleanup_free_ struct share *share = calloc(n + 1, sizeof(*share));

	if (!share)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		share[i] = find_share(rt, task[i], task[i]->mm->id);
	return fill_shares(rt, share, n, err);
}

static int fill_object_by_index(struct rtree *rt, uint32_t object, struct err *err)
{
	struct share s = find_share(rt, NULL, object);
	struct job j = {.rt = rt, .share = &s, .n = 1};

	return s.next < s.end ? run_job(&j, s.bytes, err) : 0;
}

/* ---- from a pipe: in its order ---------------------------------------------------------------- */

static int next_chunk(struct rtree *rt, struct err *err)
{
	int r;

	if (rt->has_pending)
		return 0;
	if (!rt->pending_data)
		rt->pending_data = malloc(CHUNK_MAX);
	if (!rt->pending_data)
		return err_nomem(err);
	r = image_next_chunk(rt->stream, &rt->pending, rt->pending_data, err);
	rt->has_pending = r == 0;
	return r;
}

static int take_pending(struct rtree *rt, struct rtask *t, struct err *err)
{
	int r = t && note_pages(t, &rt->pending) < 0 ? err_nomem(err) : 0;

	if (r == 0)
		r = t ? fill_one(t, &rt->pending, rt->pending_data, err) :
			objects_fill(&rt->ctx, &rt->pending, rt->pending_data, err);
	rt->has_pending = false;
	rt->filled += rt->pending.data_len;
	if (rt->progress)
		rt->progress(rt->progress_data, rt->filled);
	return r;
}

static int fill_by_stream(struct rtree *rt, struct rtask *t, uint32_t object, struct err *err)
{
	int r = 0;

	while ((r = next_chunk(rt, err)) == 0 && rt->pending.object == object) {
		if (t && t->uffd_there < 0 && rt->pending.data_len == CHUNK_MAX)
			r = remote_each(rt, &t, 1, make_uffd, take_uffd, err);
		if (r == 0)
			r = take_pending(rt, t, err);
		if (r < 0)
			break;
	}
	if (t)
		end_uffd(t);
	return r == -ENODATA ? 0 : r < 0 && t ? rtask_context(t, err) : r;
}

static int fill_in_order(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = fill_by_stream(rt, task[i], task[i]->mm->id, err);
	return r;
}

/* ---- what the engine calls -------------------------------------------------------------------- */

int pagein_objects(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->image->nobjects && r == 0; i++) {
		uint32_t id = rt->image->object[i]->id;

		r = rt->stream ? fill_by_stream(rt, NULL, id, err) : fill_object_by_index(rt, id, err);
	}
	return r;
}

/* What the root has from the coordinator. */
static int note_stock(struct rtask *t, const struct page_ranges *pages, struct err *err)
{
	for (size_t i = 0; i < pages->n; i++) {
		if (grow(&t->pages.r, &t->pages.max, t->pages.n, sizeof(*t->pages.r)) < 0)
			return err_nomem(err);
		t->pages.r[t->pages.n++] = pages->r[i];
	}
	return 0;
}

static int open_memory(struct rtask *t, struct err *err)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", t->pid);
	t->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (t->mem_fd >= 0)
		return 0;
	err_sys(err, -errno, "cannot open %s", path);
	return rtask_context(t, err);
}

int pagein_fill(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = open_memory(task[i], err);
	if (r == 0)
		r = rt->stream ? fill_in_order(rt, task, n, err) : fill_by_index(rt, task, n, err);
	for (size_t i = 0; i < n && r == 0; i++)
		if (!task[i]->parent && rt->stock)
			r = note_stock(task[i], &rt->stock->pages, err);
	for (size_t i = 0; i < n; i++)
		qsort(task[i]->pages.r, task[i]->pages.n, sizeof(struct page_range), by_addr);
	return r;
}

int pagein_mms(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	int r = pagein_fill(rt, task, n, err);

	return r < 0 ? r : remote_each(rt, task, n, finish_task, NULL, err);
}

int pagein_end(struct rtree *rt, struct err *err)
{
	int r;

	if (!rt->stream)
		return 0;
	r = next_chunk(rt, err);
	if (r == 0)
		return err_set(err, -EBADMSG, "the image holds memory of object %u out of order",
			       rt->pending.object);
	return r == -ENODATA ? 0 : r;
}
