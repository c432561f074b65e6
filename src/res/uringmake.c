/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io_uring(7): restore. The coordinator makes the ring and all tasks inherit it (it cannot be sent in
 * a message). One that belongs to a single thread is made disabled: it belongs to whoever
 * enables it.
 *
 * What a program has cached of heads and tails must still be true, and the kernel keeps its own
 * copies of those that it writes (cached_sq_head, cached_cq_tail of struct io_ring_ctx), which only
 * requests move: so as many requests that do nothing are made as were made before. Fresh memory is
 * full of them (IORING_OP_NOP is 0). The thread moves the program's side by futex(2), FUTEX_WAKE_OP,
 * a whole ring at a time. Then the memory is written as it was. Results that had overflowed
 * overflow again.
 *
 * A ring gets the flags that the kernel does not show so that it does at least what it did:
 * SUBMIT_ALL, TASKRUN_FLAG where completions are deferred, no COOP_TASKRUN.
 */
#include "res/uring.h"

#include "base/kabi.h"
#include "res/aio.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

struct maker {
	const struct rings_host *h;
	struct restore_ctx *c;
	const Cpx__File *f;
	const Cpx__Uring *b;
	int fd; /* its number in us and in every task */
	const Cpx__Task *task; /* of the owner */
	struct io_uring_params params;
	struct uring_view view;
	uint64_t at; /* address of the heads and tails in the owner's memory */
};

#define THREAD_FLAGS (uint32_t)(IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF)

/* ---- checking and opening ---- */

static bool has_thread(const Cpx__Task *t, uint32_t tid)
{
	for (size_t i = 0; i < t->n_thread; i++)
		if (t->thread[i]->tid == tid && !t->thread[i]->exited)
			return true;
	return false;
}

static const Cpx__Task *owner_of(const struct image *im, const Cpx__Uring *b)
{
	for (size_t i = 0; i < im->ntasks; i++)
		if (has_thread(im->task[i], b->owner))
			return im->task[i];
	return NULL;
}

static const char *why_unmakable(const struct io_uring_params *p, int fd)
{
	if (fd >= 0)
		return NULL;
	if (errno == EPERM)
		return "io_uring is not allowed here (sysctl kernel.io_uring_disabled)";
	return "this kernel cannot make it";
}

int uring_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	struct io_uring_params p = {.flags = f->uring->flags & ~THREAD_FLAGS};
	_cleanup_close_ int fd = (int)syscall(SYS_io_uring_setup, 1, &p);
	const char *why = why_unmakable(&p, fd);

	if (why)
		return files_refuse_restore(c, f, "io_uring", "cannot be restored: %s", why);
	return uring_thread_check(c, f, err);
}

static uint32_t flags_for(const Cpx__Uring *b)
{
	uint32_t flags = b->flags | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;

	if (flags & IORING_SETUP_DEFER_TASKRUN)
		flags |= IORING_SETUP_TASKRUN_FLAG;
	if (flags & IORING_SETUP_SINGLE_ISSUER && !(flags & IORING_SETUP_SQPOLL))
		flags |= IORING_SETUP_R_DISABLED;
	return flags;
}

/* What stands in for one that its task must make itself. */
static int stand_in(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

int uring_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	struct io_uring_params p;

	return anon_finish(c, f,
			   f->uring->flags & IORING_SETUP_SQPOLL
				   ? stand_in()
				   : uring_scratch(f->uring->sq_entries, f->uring->cq_entries,
						   flags_for(f->uring), &p),
			   ret_fd, err);
}

/* ---- calls in a thread ---- */

static int run(const struct maker *m, uint32_t tid, const struct batch *b, const char *what,
	       struct err *err)
{
	int r = m->h->run(m->h->engine, tid, b, err);

	for (unsigned i = 0; i < b->n && r == 0; i++)
		if (batch_ret(b, i) < 0)
			r = err_sys(err, (int)batch_ret(b, i), "cannot %s", what);
	return r;
}

static struct batch begin(const struct maker *m, uint32_t tid)
{
	return m->h->batch(m->h->engine, tid);
}

/* A ring of our own tells how the kernel has laid this one out. */
static int look(struct maker *m, struct err *err)
{
	_cleanup_close_ int fd = uring_scratch(m->b->sq_entries, m->b->cq_entries,
					       flags_for(m->b) & ~THREAD_FLAGS, &m->params);
	int r;

	if (fd < 0)
		return err_sys(err, -errno, "cannot be laid out");
	r = uring_view_open(m->fd, m->b->sq_entries, m->b->cq_entries, &m->view, err);
	if (r == 0 && (m->b->rings.len != m->view.rings_len || m->b->sqes.len != m->view.sqes_len))
		r = err_set(err, -EBADMSG, "its memory is not of the size that it was");
	return r;
}

static int enable(const struct maker *m, struct err *err)
{
	struct batch b = begin(m, m->b->owner);

	if (!(flags_for(m->b) & IORING_SETUP_R_DISABLED))
		return 0;
	BATCH_CALL(&b, SYS_io_uring_register, m->fd, IORING_REGISTER_ENABLE_RINGS);
	return run(m, m->b->owner, &b, "enable it", err);
}

/* ---- mappings ---- */

/* Every address space once. */
static bool is_first_with_mm(const struct image *im, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (im->task[k]->mm == im->task[i]->mm)
			return false;
	return true;
}

static int place_all(const struct maker *m, struct err *err)
{
	const struct image *im = m->c->image;
	int r = 0;

	for (size_t i = 0; i < im->ntasks && r == 0; i++) {
		const Cpx__Mm *mm = image_mm(im, im->task[i]->mm);

		if (!mm || !is_first_with_mm(im, i))
			continue;
		for (size_t k = 0; k < mm->n_vma && r == 0; k++)
			if (mm->vma[k]->kind == CPX__VMA__KIND__URING &&
			    mm->vma[k]->file == m->f->id)
				r = uring_place(m->h, im->task[i], mm->vma[k], m->fd, err);
	}
	return r;
}

static int find_words(struct maker *m, struct err *err)
{
	const Cpx__Mm *mm = image_mm(m->c->image, m->task->mm);

	for (size_t i = 0; mm && i < mm->n_vma; i++)
		if (mm->vma[i]->kind == CPX__VMA__KIND__URING && mm->vma[i]->file == m->f->id &&
		    mm->vma[i]->offset != IORING_OFF_SQES) {
			m->at = mm->vma[i]->start;
			return 0;
		}
	return err_set(err, -EBADMSG, "its owner has not mapped it");
}

/* ---- counters ---- */

static void add_to_word(const struct maker *m, struct batch *b, uint32_t offset, uint32_t by)
{
	uint64_t any = batch_out(b, 4);
	uint32_t op = FUTEX_OP(FUTEX_OP_ADD, by, FUTEX_OP_CMP_EQ, 0);

	/* An operand has 12 bits with its sign; what is larger is a power of two. */
	if (by >= 1U << 11)
		op = FUTEX_OP((FUTEX_OP_ADD | FUTEX_OP_OPARG_SHIFT), __builtin_ctz(by),
			      FUTEX_OP_CMP_EQ, 0);
	BATCH_CALL(b, SYS_futex, any, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
		   m->at + offset, op);
}

/* kept: results that are there already. A thread of the kernel is waited for. */
static void add_round(const struct maker *m, struct batch *b, uint32_t n, uint32_t kept, bool is_taken)
{
	add_to_word(m, b, m->params.sq_off.tail, n);
	if (m->b->flags & IORING_SETUP_SQPOLL)
		BATCH_CALL(b, SYS_io_uring_enter, m->fd, n, kept + n,
			   IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, 0, 0);
	else
		BATCH_CALL(b, SYS_io_uring_enter, m->fd, n, 0, 0, 0, 0);
	if (is_taken)
		add_to_word(m, b, m->params.cq_off.head, n);
}

/* What does not fit into an operand goes in several steps. */
static uint32_t next_round(uint32_t left, uint32_t entries)
{
	uint32_t n = MIN(left, entries);

	return n == entries ? n : MIN(n, (1U << 11) - 1);
}

static int do_nothing(const struct maker *m, uint32_t left, bool is_taken, struct err *err)
{
	uint32_t kept = 0;
	int r = 0;

	while (left && r == 0) {
		struct batch b = begin(m, m->b->owner);

		while (left && !batch_is_tight(&b, 3, 64)) {
			uint32_t n = next_round(left, m->b->sq_entries);

			add_round(m, &b, n, kept, is_taken);
			kept += is_taken ? 0 : n;
			left -= n;
		}
		r = run(m, m->b->owner, &b, "bring its counters up", err);
	}
	return r;
}

static uint32_t recorded(const struct maker *m, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, m->b->rings.data + offset, sizeof(value));
	return value;
}

/*
 * The head of the results never gets further than it was: the kernel reserves free places ahead
 * (io_uring/io_uring.c, io_cqe_cache_refill) and would write over what is not taken. Results only overflow from a
 * full ring.
 */
static int count_up(const struct maker *m, struct err *err)
{
	uint32_t completed = m->b->submitted - (uint32_t)m->b->n_overflow, kept;
	int r;

	kept = completed - recorded(m, m->params.cq_off.head);
	kept = m->b->n_overflow ? m->b->cq_entries : MIN(kept, m->b->cq_entries);
	kept = MIN(kept, completed);
	r = do_nothing(m, completed - kept, true, err);
	return r < 0 ? r : do_nothing(m, kept, false, err);
}

static uint32_t *word(const struct maker *m, uint32_t offset)
{
	return uring_word(&m->view, offset);
}

/* With a full ring. */
static int overflow_one(const struct maker *m, const Cpx__UringCqe *cqe, struct err *err)
{
	uint32_t tail = *word(m, m->params.sq_off.tail), mask = m->b->sq_entries - 1;
	size_t size = sizeof(struct io_uring_sqe) << !!(m->b->flags & IORING_SETUP_SQE128);
	bool has_array = !(m->b->flags & IORING_SETUP_NO_SQARRAY);
	struct io_uring_sqe *sqe = (void *)(m->view.sqes + (has_array ? 0 : tail & mask) * size);
	struct batch b = begin(m, m->b->owner);
	int r;

	*sqe = (struct io_uring_sqe){.opcode = IORING_OP_NOP,
				     .len = (uint32_t)cqe->res,
				     .rw_flags = KABI_NOP_INJECT_RESULT,
				     .user_data = cqe->user_data};
	__atomic_store_n(word(m, m->params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	BATCH_CALL(&b, SYS_io_uring_enter, m->fd, 1, 0, 0, 0, 0);
	r = run(m, m->b->owner, &b, "let its results overflow", err);
	return r;
}

static int overflow(const struct maker *m, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < m->b->n_overflow && r == 0; i++)
		r = overflow_one(m, m->b->overflow[i], err);
	return r;
}

/* ---- memory ---- */

static void copy_word(const struct maker *m, uint32_t offset)
{
	__atomic_store_n(word(m, offset), recorded(m, offset), __ATOMIC_RELEASE);
}

static bool is_word_equal(const struct maker *m, uint32_t offset)
{
	return memcmp(m->view.rings + offset, m->b->rings.data + offset, 4) == 0;
}

/* The kernel's thread gives its results before it says what it has taken. */
static void await_head(const struct maker *m)
{
	const struct timespec step = {.tv_nsec = 50000};

	for (int i = 0; i < 20000 && !is_word_equal(m, m->params.sq_off.head); i++)
		nanosleep(&step, NULL);
}

/* Everything but what the kernel keeps there itself. */
static int write_memory(const struct maker *m, struct err *err)
{
	uint32_t from = m->params.cq_off.cqes;

	memcpy(m->view.sqes, m->b->sqes.data, m->b->sqes.len);
	memcpy(m->view.rings + from, m->b->rings.data + from, m->b->rings.len - from);
	copy_word(m, m->params.cq_off.head);
	copy_word(m, m->params.cq_off.flags);
	copy_word(m, m->params.sq_off.tail);
	await_head(m);
	if (!is_word_equal(m, m->params.sq_off.head) || !is_word_equal(m, m->params.cq_off.tail))
		return err_set(err, -EIO,
			       "its counters cannot be brought to what they were: they are %u and %u",
			       *word(m, m->params.sq_off.head), *word(m, m->params.cq_off.tail));
	return 0;
}

/* ---- registered ---- */

static int register_sparse(const struct maker *m, unsigned op, uint32_t n, struct err *err)
{
	struct io_uring_rsrc_register reg = {.nr = n, .flags = IORING_RSRC_REGISTER_SPARSE};
	struct batch b = begin(m, m->b->owner);

	BATCH_CALL(&b, SYS_io_uring_register, m->fd, op, batch_in(&b, &reg, sizeof(reg)),
		   sizeof(reg));
	return run(m, m->b->owner, &b, "register places", err);
}

static int update(const struct maker *m, unsigned op, struct io_uring_rsrc_update2 *up,
		  const void *data, size_t size, struct err *err)
{
	struct batch b = begin(m, m->b->owner);

	up->data = batch_in(&b, data, size);
	BATCH_CALL(&b, SYS_io_uring_register, m->fd, op, batch_in(&b, up, sizeof(*up)), sizeof(*up));
	return run(m, m->b->owner, &b,
		   op == IORING_REGISTER_BUFFERS_UPDATE ? "register its buffers"
							: "register its files",
		   err);
}

#define AT_ONCE 1024

static int register_files(const struct maker *m, struct err *err)
{
	int r = m->b->n_file ? register_sparse(m, IORING_REGISTER_FILES2, m->b->n_file, err) : 0;

	for (size_t i = 0; i < m->b->n_file && r == 0; i += AT_ONCE) {
		struct io_uring_rsrc_update2 up = {.offset = i,
						   .nr = MIN(m->b->n_file - i, (size_t)AT_ONCE)};
		int fd[AT_ONCE];

		for (size_t k = 0; k < up.nr; k++)
			fd[k] = m->b->file[i + k] ? files_fd(m->c, m->b->file[i + k]) : -1;
		r = update(m, IORING_REGISTER_FILES_UPDATE2, &up, fd, up.nr * sizeof(*fd), err);
	}
	return r;
}

static int register_buffers(const struct maker *m, struct err *err)
{
	int r = m->b->n_buffer ? register_sparse(m, IORING_REGISTER_BUFFERS2, m->b->n_buffer, err)
			       : 0;

	for (size_t i = 0; i < m->b->n_buffer && r == 0; i += AT_ONCE) {
		struct io_uring_rsrc_update2 up = {.offset = i,
						   .nr = MIN(m->b->n_buffer - i, (size_t)AT_ONCE)};
		struct iovec iov[AT_ONCE];

		for (size_t k = 0; k < up.nr; k++)
			iov[k] = (struct iovec){(void *)m->b->buffer[i + k]->addr,
						m->b->buffer[i + k]->len};
		r = update(m, IORING_REGISTER_BUFFERS_UPDATE, &up, iov, up.nr * sizeof(*iov), err);
	}
	return r;
}

static int register_eventfd(const struct maker *m, struct err *err)
{
	int fd = m->b->eventfd ? files_fd(m->c, m->b->eventfd) : -1;
	struct batch b = begin(m, m->b->owner);

	if (fd < 0)
		return 0;
	BATCH_CALL(&b, SYS_io_uring_register, m->fd, IORING_REGISTER_EVENTFD,
		   batch_in(&b, &fd, sizeof(fd)), 1);
	return run(m, m->b->owner, &b, "register its eventfd", err);
}

static int register_slots(const struct maker *m, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < m->b->n_slot && r == 0; i++) {
		const Cpx__UringSlot *s = m->b->slot[i];
		struct io_uring_rsrc_update up = {.offset = s->slot, .data = (uint32_t)m->fd};
		struct batch b = begin(m, s->tid);

		BATCH_CALL(&b, SYS_io_uring_register, m->fd, IORING_REGISTER_RING_FDS,
			   batch_in(&b, &up, sizeof(up)), 1);
		r = run(m, s->tid, &b, "register its descriptor", err);
	}
	return r;
}

/* ---- all of it ---- */

static int make_steps(struct maker *m, struct err *err)
{
	int (*const steps[])(const struct maker *m, struct err *err) = {
		enable,	      place_all,      count_up,		overflow,
		write_memory, register_files, register_buffers, register_eventfd,
		register_slots,
	};
	int r = 0;

	if (m->b->flags & IORING_SETUP_SQPOLL)
		r = uring_thread_make(m->h, m->f, m->task, flags_for(m->b), m->fd, err);
	if (r == 0)
		r = look(m, err);
	if (r == 0)
		r = find_words(m, err);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0; i++)
		r = steps[i](m, err);
	return r;
}

static int make_one(const struct rings_host *h, size_t i, struct err *err)
{
	const Cpx__File *f = h->c->image->file[i];
	struct maker m = {.h = h, .c = h->c, .f = f, .b = f->uring};
	int r;

	m.fd = h->c->file_fd[i];
	m.task = owner_of(h->c->image, f->uring);
	if (!m.task)
		return err_set(err, -EBADMSG, "an io_uring belongs to no thread");
	r = make_steps(&m, err);
	uring_view_close(&m.view);
	return r < 0 ? err_context(err, "task %u: io_uring", m.task->pid) : 0;
}

int rings_make(const struct rings_host *h, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < h->c->image->nfiles && r == 0; i++)
		if (h->c->image->file[i]->uring)
			r = make_one(h, i, err);
	return r < 0 ? r : aio_make(h, err);
}
