/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io_urings of other layouts, of one thread only, with deferred completions, with results that have
 * overflowed, and threads that have registered a ring's descriptor. */
#include "uring.h"

static const struct {
	unsigned entries, cq_entries;
	uint32_t flags;
} kind[] = {
	{1, 0, 0},
	{4, 64, 0},
	{4, 0, IORING_SETUP_NO_SQARRAY},
	{64, 0, IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQE128},
	{8, 0, IORING_SETUP_SQE128 | IORING_SETUP_CQE32},
	{256, 1024, IORING_SETUP_CQE32 | IORING_SETUP_CLAMP},
	{4096, 0, IORING_SETUP_COOP_TASKRUN},
	{8, 0, IORING_SETUP_SINGLE_ISSUER},
	{16, 0, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN},
};
enum { KINDS = sizeof(kind) / sizeof(kind[0]) };

static struct ring ring[KINDS], full, nearly_full, threads_own;
static volatile bool is_go;
static int slot;

static void prepare(struct ring *r, uint64_t id)
{
	ring_exercise(r, 11);
	ring_nop(r, id);
	CHECK_EQ(ring_enter(r, 1, 1), 1);
}

static void check(struct ring *r, uint64_t id)
{
	ring_expect(r, id, 0);
	ring_is_empty(r);
	ring_exercise(r, 23);
}

static bool is_overflowed(const struct ring *r)
{
	return *ring_sq(r, r->p.sq_off.flags) & IORING_SQ_CQ_OVERFLOW;
}

/* Two fit, two do not: of these one has failed. */
static void overflow(struct ring *r)
{
	ring_exercise(r, 3);
	for (int i = 0; i < 4; i++) {
		struct io_uring_sqe *sqe = ring_next(r);

		sqe->opcode = i == 3 ? IORING_OP_CLOSE : IORING_OP_NOP;
		sqe->fd = -1;
		sqe->user_data = 900 + i;
		ring_publish(r);
		CHECK_EQ(ring_enter(r, 1, 0), 1);
	}
	CHECK(is_overflowed(r), "it has not overflowed");
}

static void check_overflow(struct ring *r)
{
	CHECK(is_overflowed(r), "nothing has overflowed any more");
	ring_expect(r, 900, 0);
	ring_expect(r, 901, 0);
	ring_is_empty(r);
	CHECK_EQ(ring_enter(r, 0, 2), 0);
	ring_expect(r, 902, 0);
	ring_expect(r, 903, -EBADF);
	CHECK(!is_overflowed(r), "it still says that it has overflowed");
	ring_exercise(r, 9);
}

/* 14 of 16 places are taken. */
static void fill(struct ring *r)
{
	ring_exercise(r, 3);
	for (int i = 0; i < 14; i++) {
		ring_nop(r, 700 + i);
		CHECK_EQ(ring_enter(r, 1, 0), 1);
	}
}

/* The kernel writes over none of them. */
static void check_fill(struct ring *r)
{
	for (int i = 14; i < 20; i++) {
		ring_nop(r, 700 + i);
		CHECK_EQ(ring_enter(r, 1, 0), 1);
	}
	CHECK(is_overflowed(r), "more fits in than there is room for");
	for (int i = 0; i < 16; i++)
		ring_expect(r, 700 + i, 0);
	CHECK_EQ(ring_enter(r, 0, 4), 0);
	for (int i = 16; i < 20; i++)
		ring_expect(r, 700 + i, 0);
	ring_exercise(r, 9);
}

static int enter_slot(const struct ring *r)
{
	return (int)syscall(SYS_io_uring_enter, slot, 0, 0, 1U << 4 /* REGISTERED_RING */, NULL, 0);
}

/* A ring that only this thread may use. */
static void *thread(void *arg)
{
	ring_make(&threads_own, 8, 0, IORING_SETUP_SINGLE_ISSUER, false);
	prepare(&threads_own, 55);
	is_go = true;
	subject_wait();
	check(&threads_own, 55);
	return NULL;
}

static void register_slot(struct ring *r)
{
	struct io_uring_rsrc_update up = {.offset = 3, .data = (uint32_t)r->fd};

	MUST(syscall(SYS_io_uring_register, r->fd, 20 /* RING_FDS */, &up, 1));
	slot = 3;
}

static int child(void *arg)
{
	struct ring r;

	for (int i = 0; i < KINDS; i++)
		close(ring[i].fd);
	close(full.fd);
	close(nearly_full.fd);
	ring_make(&r, 8, 0, 0, false);
	ring_exercise(&r, 3);
	register_slot(&r);
	subject_child_ready();
	subject_wait();
	CHECK_EQ(enter_slot(&r), 0);
	slot = 4;
	CHECK(enter_slot(&r) < 0 && errno == EBADF, "another place is taken: %s", strerror(errno));
	ring_exercise(&r, 3);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t;
	pid_t pid;

	subject_init(argc, argv);
	for (int i = 0; i < KINDS; i++) {
		ring_make(&ring[i], kind[i].entries, kind[i].cq_entries, kind[i].flags, false);
		prepare(&ring[i], 300 + i);
	}
	ring_make(&full, 1, 2, 0, false);
	overflow(&full);
	ring_make(&nearly_full, 8, 16, 0, false);
	fill(&nearly_full);
	pid = subject_fork(child, NULL);
	t = subject_thread(thread, NULL);
	while (!is_go)
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	for (int i = 0; i < KINDS; i++)
		check(&ring[i], 300 + i);
	check_overflow(&full);
	check_fill(&nearly_full);
	subject_join_thread(t);
	subject_join(pid);
	subject_pass();
}
