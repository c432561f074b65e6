/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a record of an io_uring or of asynchronous I/O, and mappings of their rings, must be like. Pure
 * functions. */
#include "image/reader.h"
#include "base/kabi.h"
#include "base/util.h"

#include <linux/io_uring.h>

#define SUBMITTED_MAX (1U << 28) /* src/res/uring.c */
#define KNOWN_FLAGS                                                                                \
	(IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_SINGLE_ISSUER |                   \
	 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQPOLL |             \
	 IORING_SETUP_SQ_AFF)

bool rings_fit(const struct image *im, const Cpx__Vma *v)
{
	const Cpx__File *f = image_file(im, v->file);

	return f && f->uring &&
	       (v->offset == IORING_OFF_SQ_RING || v->offset == IORING_OFF_CQ_RING ||
		v->offset == IORING_OFF_SQES);
}

static bool is_power_of_2(uint32_t n)
{
	return n && !(n & (n - 1));
}

static bool has_thread(const struct image *im, uint32_t tid)
{
	const struct id_entry *e = id_map_find(&im->private->tids, tid);
	const Cpx__Task *t = e ? e->msg : NULL;

	return t && t->state != CPX__TASK__STATE__ZOMBIE;
}

static bool is_registrable(const struct image *im, uint32_t id)
{
	const Cpx__File *f = image_file(im, id);

	return f && !f->uring && !f->pidfd;
}

bool rings_are_sound(const struct image *im, const Cpx__File *f)
{
	const Cpx__Uring *b = f->uring;
	const Cpx__File *eventfd = b && b->eventfd ? image_file(im, b->eventfd) : NULL;

	if (!b)
		return true;
	if (b->flags & ~KNOWN_FLAGS || b->submitted > SUBMITTED_MAX ||
	    b->n_overflow > b->submitted || (b->flags & IORING_SETUP_SQPOLL && b->n_overflow))
		return false;
	if (!is_power_of_2(b->sq_entries) || !is_power_of_2(b->cq_entries) ||
	    b->cq_entries < b->sq_entries || !has_thread(im, b->owner))
		return false;
	if (b->eventfd && (!eventfd || !eventfd->eventfd))
		return false;
	for (size_t i = 0; i < b->n_file; i++)
		if (b->file[i] && !is_registrable(im, b->file[i]))
			return false;
	for (size_t i = 0; i < b->n_slot; i++)
		if (!has_thread(im, b->slot[i]->tid))
			return false;
	return true;
}

static const Cpx__AioContext *find_context(const Cpx__Mm *mm, uint64_t addr)
{
	for (size_t i = 0; i < mm->n_aio; i++)
		if (mm->aio[i]->addr == addr)
			return mm->aio[i];
	return NULL;
}

static bool is_context(const Cpx__AioContext *a, uint64_t len)
{
	return len > AIO_RING_HEAD && a->events.len == len - AIO_RING_HEAD &&
	       a->nr == a->events.len / AIO_EVENT_SIZE && a->head < a->nr && a->tail < a->nr;
}

bool rings_have_contexts(const Cpx__Mm *mm)
{
	size_t n = 0;

	for (size_t i = 0; i < mm->n_vma; i++) {
		const Cpx__Vma *v = mm->vma[i];
		const Cpx__AioContext *a;

		if (v->kind != CPX__VMA__KIND__AIO)
			continue;
		a = find_context(mm, v->start);
		if (!a || !is_context(a, v->end - v->start))
			return false;
		n++;
	}
	return n == mm->n_aio;
}
