/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers that sort out, hash and compress pages, and the memory out of which they do so. Jobs are
 * taken by workers in any order and come out in the order in which they went in; whoever waits for
 * one that nobody has begun does it himself.
 */
#include "mem/pages.h"

#include "base/background.h"

#include <signal.h>
#include <sys/mman.h>

#define WORKERS_MAX 64
#define RING_SIZE   (SINK_SLOTS * SINK_GROUP)
#define PACK_WORTH  (CHUNK_MAX / 2) /* what is less than that is packed */

struct page_pool {
	struct image_writer_options options;
	pthread_t thread[WORKERS_MAX];
	unsigned nthreads, wanted;
	bool is_background; /* as each worker finds out before its next job */
	int fd; /* memfd of the ring */
	uint8_t *ring;
	pthread_mutex_t lock;
	pthread_cond_t has_work, has_result;
	struct page_job *first, *last; /* all jobs that are not taken out yet, in order */
	bool is_ending;
};

/* ---- one job ---- */

static void keep_page(struct page_job *j, uint64_t addr, const uint8_t *page)
{
	struct extent *last = j->nstored ? &j->stored[j->nstored - 1] : NULL;

	if (j->data + j->stored_bytes != page)
		memcpy(j->data + j->stored_bytes, page, CPX_PAGE_SIZE);
	j->stored_bytes += CPX_PAGE_SIZE;
	if (last && last->addr + last->len == addr)
		last->len += CPX_PAGE_SIZE;
	else
		j->stored[j->nstored++] = (struct extent){addr, CPX_PAGE_SIZE};
}

/* Zero pages and pages equal to the parent's go apart, and those that the parent image has; the others
 * stay, moved together. */
static int part_page(struct page_job *j, uint64_t addr, const uint8_t *page, struct err *err)
{
	XXH128_hash_t hash;
	int r = 0;

	if (page_is_zero(page))
		return page_chunks_add(&j->zero, addr, CPX_PAGE_SIZE) < 0 ? err_nomem(err) : 0;
	if (j->hash || j->parent)
		hash = XXH3_128bits(page, CPX_PAGE_SIZE);
	if (j->hash) {
		j->hash[j->nhashes].addr = addr;
		j->hash[j->nhashes++].hash = hash;
	}
	if (j->parent && page_hash_is_equal(j->parent, addr, hash))
		return page_chunks_add(&j->inherited, addr, CPX_PAGE_SIZE) < 0 ? err_nomem(err) : 0;
	if (j->lookup)
		r = image_lookup_compare(j->lookup, addr, page, err);
	if (r > 0)
		return page_chunks_add(&j->before, addr, CPX_PAGE_SIZE) < 0 ? err_nomem(err) : 0;
	if (r == 0)
		keep_page(j, addr, page);
	return r < 0 ? err_context(err, "the parent image") : 0;
}

static int part_pages(struct page_job *j, struct err *err)
{
	const uint8_t *page = j->data;
	int r = 0;

	for (unsigned i = 0; i < j->chunk.n && r == 0; i++)
		for (uint64_t at = 0; at < j->all[i].len && r == 0; at += CPX_PAGE_SIZE) {
			r = part_page(j, j->all[i].addr + at, page, err);
			page += CPX_PAGE_SIZE;
		}
	return r;
}

static int run_job(const struct page_pool *pool, struct page_job *j, struct err *err)
{
	size_t pages = j->chunk.bytes / CPX_PAGE_SIZE;
	int r;

	j->stored = malloc(pages * sizeof(*j->stored));
	j->hash = j->want_hashes ? malloc(pages * sizeof(*j->hash)) : NULL;
	if (!j->stored || (j->want_hashes && !j->hash))
		return err_nomem(err);
	r = part_pages(j, err);
	if (r < 0 || !j->nstored || (j->lookup && j->stored_bytes < PACK_WORTH))
		return r;
	return image_prepare_chunk(&pool->options, j->mm, CHUNK_DATA, j->stored, j->nstored,
				   j->data, &j->prepared, err);
}

static void discard_prepared(struct page_job *j)
{
	image_prepared_free(j->prepared);
	j->prepared = NULL;
}

void page_job_free(struct page_job *j)
{
	if (!j)
		return;
	discard_prepared(j);
	page_chunks_release(&j->inherited);
	page_chunks_release(&j->before);
	page_chunks_release(&j->zero);
	free(j->all);
	free(j->hash);
	free(j->stored);
	free(j);
}

/* ---- the pool ---- */

static struct page_job *first_queued(const struct page_pool *pool)
{
	struct page_job *j = pool->first;

	while (j && j->state != JOB_QUEUED)
		j = j->next;
	return j;
}

/* Called and returns with the lock held. */
static void do_job(struct page_pool *pool, struct page_job *j)
{
	j->state = JOB_RUNNING;
	pthread_mutex_unlock(&pool->lock);
	j->ret = run_job(pool, j, &j->err);
	pthread_mutex_lock(&pool->lock);
	j->state = JOB_DONE;
	pthread_cond_broadcast(&pool->has_result);
}

static void *worker(void *arg)
{
	struct page_pool *pool = arg;
	bool is_background = false;

	pthread_mutex_lock(&pool->lock);
	while (!pool->is_ending) {
		struct page_job *j = first_queued(pool);

		if (pool->is_background && !is_background)
			background_thread(0);
		is_background = pool->is_background;
		if (j)
			do_job(pool, j);
		else
			pthread_cond_wait(&pool->has_work, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Signals are the main thread's: workers block them all. Fewer workers than asked for will do. */
static void start_worker(struct page_pool *pool)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&pool->thread[pool->nthreads], NULL, worker, pool) == 0)
		pool->nthreads++;
	else
		pool->wanted = pool->nthreads;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static int map_ring(struct page_pool *pool, struct err *err)
{
	pool->fd = memfd_create("cpx-pages", MFD_CLOEXEC);
	if (pool->fd < 0 || ftruncate(pool->fd, RING_SIZE) < 0)
		return err_sys(err, -errno, "cannot make a buffer for pages");
	pool->ring = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, pool->fd, 0);
	if (pool->ring == MAP_FAILED) {
		pool->ring = NULL;
		return err_sys(err, -errno, "cannot map a buffer for pages");
	}
	return 0;
}

int page_pool_new(const struct pageout *p, struct page_pool **ret, struct err *err)
{
	struct page_pool *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return err_nomem(err);
	pool->options = *p->options;
	pool->wanted = MIN(p->workers, (unsigned)WORKERS_MAX);
	pool->is_background = p->is_background;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->has_work, NULL);
	pthread_cond_init(&pool->has_result, NULL);
	r = map_ring(pool, err);
	if (r < 0) {
		page_pool_free(pool);
		return r;
	}
	*ret = pool;
	return 0;
}

int page_pool_fd(const struct page_pool *pool)
{
	return pool->fd;
}

uint8_t *page_pool_ring(const struct page_pool *pool)
{
	return pool->ring;
}

static void end_workers(struct page_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->is_ending = true;
	pthread_cond_broadcast(&pool->has_work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->nthreads; i++)
		pthread_join(pool->thread[i], NULL);
}

void page_pool_yield(struct page_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->is_background = true;
	pthread_mutex_unlock(&pool->lock);
}

void page_pool_free(struct page_pool *pool)
{
	if (!pool)
		return;
	end_workers(pool);
	while (pool->first) {
		struct page_job *j = pool->first;

		pool->first = j->next;
		page_job_free(j);
	}
	pthread_cond_destroy(&pool->has_result);
	pthread_cond_destroy(&pool->has_work);
	pthread_mutex_destroy(&pool->lock);
	if (pool->ring)
		munmap(pool->ring, RING_SIZE);
	cleanup_close(&pool->fd);
	free(pool);
}

/* A single job is not worth a thread: the caller will do it when it asks for it. */
static bool is_worth_worker(const struct page_pool *pool)
{
	return pool->nthreads < pool->wanted && pool->first != pool->last;
}

void page_pool_add(struct page_pool *pool, struct page_job *job)
{
	bool is_worth;

	pthread_mutex_lock(&pool->lock);
	job->state = JOB_QUEUED;
	job->next = NULL;
	if (pool->first)
		pool->last->next = job;
	else
		pool->first = job;
	pool->last = job;
	is_worth = is_worth_worker(pool);
	pthread_cond_signal(&pool->has_work);
	pthread_mutex_unlock(&pool->lock);
	if (is_worth)
		start_worker(pool);
}

struct page_job *page_pool_take(struct page_pool *pool)
{
	struct page_job *j;

	pthread_mutex_lock(&pool->lock);
	j = pool->first;
	if (j && j->state == JOB_QUEUED)
		do_job(pool, j);
	while (j && j->state != JOB_DONE)
		pthread_cond_wait(&pool->has_result, &pool->lock);
	if (j)
		pool->first = j->next;
	pthread_mutex_unlock(&pool->lock);
	return j;
}

bool page_pool_has_result(struct page_pool *pool)
{
	bool is_done;

	pthread_mutex_lock(&pool->lock);
	is_done = pool->first && pool->first->state == JOB_DONE;
	pthread_mutex_unlock(&pool->lock);
	return is_done;
}
