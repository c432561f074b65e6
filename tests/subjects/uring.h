/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An io_uring by bare system calls, as a program without a library uses it: its own tail and head are
 * remembered here, and only the words that it may write are written. */
#ifndef URING_H
#define URING_H

#include "subject.h"

#include <linux/io_uring.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

struct ring {
	int fd;
	struct io_uring_params p;
	uint8_t *sq, *cq, *sqes; /* sq and cq are the same with IORING_FEAT_SINGLE_MMAP */
	uint32_t tail, head;	 /* of submissions, of completions */
};

static inline uint32_t *ring_sq(const struct ring *r, uint32_t offset)
{
	return (uint32_t *)(r->sq + offset);
}

static inline uint32_t *ring_cq(const struct ring *r, uint32_t offset)
{
	return (uint32_t *)(r->cq + offset);
}

static inline size_t ring_sqe_size(const struct ring *r)
{
	return sizeof(struct io_uring_sqe) << !!(r->p.flags & IORING_SETUP_SQE128);
}

static inline size_t ring_cqe_size(const struct ring *r)
{
	return sizeof(struct io_uring_cqe) << !!(r->p.flags & IORING_SETUP_CQE32);
}

/* cq_entries 0: as the kernel likes. Two mappings of the rings if is_split. */
static inline void ring_make(struct ring *r, unsigned entries, unsigned cq_entries, uint32_t flags,
			     bool is_split)
{
	size_t sq, cq;

	*r = (struct ring){.p = {.flags = flags | (cq_entries ? IORING_SETUP_CQSIZE : 0),
				 .cq_entries = cq_entries}};
	r->fd = (int)syscall(SYS_io_uring_setup, entries, &r->p);
	if (r->fd < 0 && (errno == EPERM || errno == ENOSYS))
		subject_skip("io_uring is not allowed here");
	if (r->fd < 0 && errno == EINVAL)
		subject_skip("this kernel has no io_uring with flags %#x", flags);
	MUST(r->fd);
	sq = r->p.sq_off.array + r->p.sq_entries * 4;
	cq = r->p.cq_off.cqes + r->p.cq_entries * ring_cqe_size(r);
	sq = sq > cq ? sq : cq;
	r->sq = MUST(mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
			  IORING_OFF_SQ_RING));
	r->cq = is_split ? MUST(mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
				     IORING_OFF_CQ_RING))
			 : r->sq;
	r->sqes = MUST(mmap(NULL, r->p.sq_entries * ring_sqe_size(r), PROT_READ | PROT_WRITE,
			    MAP_SHARED, r->fd, IORING_OFF_SQES));
}

/* The next request, to be filled in; it counts when the next one is asked for or ring_publish() is
 * called. */
static inline struct io_uring_sqe *ring_next(struct ring *r)
{
	uint32_t i = r->tail & (r->p.sq_entries - 1);
	struct io_uring_sqe *sqe = (void *)(r->sqes + i * ring_sqe_size(r));

	memset(sqe, 0, ring_sqe_size(r));
	if (!(r->p.flags & IORING_SETUP_NO_SQARRAY))
		ring_sq(r, r->p.sq_off.array)[i] = i;
	r->tail++;
	return sqe;
}

static inline void ring_publish(struct ring *r)
{
	__atomic_store_n(ring_sq(r, r->p.sq_off.tail), r->tail, __ATOMIC_RELEASE);
}

static inline int ring_enter(struct ring *r, unsigned submit, unsigned wait)
{
	unsigned wake = r->p.flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0;

	return (int)syscall(SYS_io_uring_enter, r->fd, submit, wait,
			    wake | (wait ? IORING_ENTER_GETEVENTS : 0), NULL, 0);
}

static inline void ring_nop(struct ring *r, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_next(r);

	sqe->opcode = IORING_OP_NOP;
	sqe->user_data = user_data;
	ring_publish(r);
}

/* The oldest result, which is taken; it must be there. */
static inline struct io_uring_cqe ring_take(struct ring *r)
{
	uint32_t tail = __atomic_load_n(ring_cq(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE);
	struct io_uring_cqe *cqe;

	CHECK(tail != r->head, "no result: head and tail are %u", tail);
	cqe = (void *)(r->cq + r->p.cq_off.cqes +
		       (r->head & (r->p.cq_entries - 1)) * ring_cqe_size(r));
	CHECK_EQ(*ring_cq(r, r->p.cq_off.head), r->head);
	__atomic_store_n(ring_cq(r, r->p.cq_off.head), ++r->head, __ATOMIC_RELEASE);
	return *cqe;
}

static inline void ring_expect(struct ring *r, uint64_t user_data, int res)
{
	struct io_uring_cqe cqe = ring_take(r);

	CHECK_EQ(cqe.user_data, user_data);
	CHECK_EQ(cqe.res, res);
}

static inline void ring_is_empty(const struct ring *r)
{
	CHECK_EQ(*ring_cq(r, r->p.cq_off.tail), r->head);
}

/* Goes round a few times, one or several at a time. */
static inline void ring_exercise(struct ring *r, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		unsigned n = 1 + i % r->p.sq_entries;

		for (unsigned k = 0; k < n; k++)
			ring_nop(r, 1000 * i + k);
		CHECK_EQ(ring_enter(r, n, n), n);
		for (unsigned k = 0; k < n; k++)
			ring_expect(r, 1000 * i + k, 0);
		CHECK_EQ(*ring_sq(r, r->p.sq_off.head), r->tail);
	}
}

#endif
