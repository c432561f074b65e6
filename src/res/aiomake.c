/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts of asynchronous I/O: restore. The task makes a new one and moves its ring to the old
 * address, which becomes its id (fs/aio.c, aio_ring_mremap). The kernel has its own copy of the tail,
 * which only results move: so it reads nothing from an empty file until the tail is where it was.
 * Then the results are written over.
 */
#include "res/aio.h"

#include "base/kabi.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define AT_ONCE 16

struct context {
	const struct rings_host *h;
	uint32_t pid;
	const Cpx__AioContext *a;
	uint64_t len;
	int mem; /* /proc/PID/mem */
	int fd;	 /* of the empty file, in the task */
};

static struct batch begin(const struct context *x)
{
	return x->h->batch(x->h->engine, x->pid);
}

static int run(const struct context *x, const struct batch *b, const char *what, struct err *err)
{
	int r = x->h->run(x->h->engine, x->pid, b, err);

	for (unsigned i = 0; i < b->n && r == 0; i++)
		if (batch_ret(b, i) < 0 && batch_ret(b, i) > -4096)
			r = err_sys(err, (int)batch_ret(b, i), "cannot %s", what);
	return r;
}

/* The smallest number of requests for which the kernel makes so many places: two for each, and two,
 * in whole pages. */
static uint64_t wanted(uint32_t nr)
{
	uint32_t per_page = CPX_PAGE_SIZE / AIO_EVENT_SIZE;

	return nr < per_page ? 1 : (nr - per_page - 2) / 2 + 1;
}

static int read_head(const struct context *x, struct aio_head *ret, struct err *err)
{
	if (pread(x->mem, ret, sizeof(*ret), (off_t)x->a->addr) != sizeof(*ret))
		return err_sys(err, -EIO, "cannot read its ring");
	return 0;
}

/* The place is taken first, so that the new ring does not come to lie half over it. */
static int make(struct context *x, struct err *err)
{
	struct batch b = begin(x);
	uint64_t id = batch_out(&b, sizeof(uint64_t)), at;
	unsigned file;
	int r;

	BATCH_CALL(&b, SYS_mmap, x->a->addr, x->len, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	BATCH_CALL(&b, SYS_io_setup, wanted(x->a->nr), id);
	file = BATCH_CALL(&b, SYS_memfd_create, batch_in_str(&b, "cpx-empty"), MFD_CLOEXEC);
	r = run(x, &b, "make it (fs.aio-max-nr)", err);
	if (r < 0)
		return r;
	memcpy(&at, batch_local(&b, id), sizeof(at));
	x->fd = (int)batch_ret(&b, file);
	b = begin(x);
	BATCH_CALL(&b, SYS_mremap, at, x->len, x->len, MREMAP_MAYMOVE | MREMAP_FIXED, x->a->addr);
	return run(x, &b, "move its ring", err);
}

static int check_size(const struct context *x, struct err *err)
{
	struct aio_head head;
	int r = read_head(x, &head, err);

	if (r == 0 && head.nr != x->a->nr)
		r = err_set(err, -EBADMSG, "its ring has %u places here, not %u", head.nr, x->a->nr);
	return r;
}

static void add_requests(const struct context *x, struct batch *b, uint32_t n, bool is_taken)
{
	struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)x->fd};
	uint64_t at = batch_in(b, &request, sizeof(request)), list[AT_ONCE];

	for (size_t i = 0; i < n; i++)
		list[i] = at;
	BATCH_CALL(b, SYS_io_submit, x->a->addr, n, batch_in(b, list, n * sizeof(*list)));
	if (is_taken)
		BATCH_CALL(b, SYS_io_getevents, x->a->addr, n, n,
			   batch_out(b, AT_ONCE * AIO_EVENT_SIZE), 0);
}

static int check_counts(const struct context *x, const struct batch *b, const uint32_t *n,
			struct err *err)
{
	int r = run(x, b, "bring its tail to where it was", err);

	for (unsigned i = 0; i < b->n && r == 0; i++)
		if (batch_ret(b, i) != n[i])
			r = err_set(err, -EAGAIN, "its tail cannot be brought to where it was");
	return r;
}

static int read_nothing(const struct context *x, uint32_t left, bool is_taken, struct err *err)
{
	int r = 0;

	while (left && r == 0) {
		struct batch b = begin(x);
		uint32_t n[LANE_CALLS];

		while (left && !batch_is_tight(&b, 2, 2048)) {
			uint32_t k = MIN(left, (uint32_t)AT_ONCE);

			n[b.n] = n[b.n + 1] = k;
			add_requests(x, &b, k, is_taken);
			left -= k;
		}
		r = check_counts(x, &b, n, err);
	}
	return r;
}

static int bring_up(const struct context *x, struct err *err)
{
	const Cpx__AioContext *a = x->a;
	int r = read_nothing(x, a->head, true, err);

	return r < 0 ? r : read_nothing(x, (a->tail + a->nr - a->head) % a->nr, false, err);
}

static int write_events(const struct context *x, struct err *err)
{
	struct aio_head head;
	int r = read_head(x, &head, err);

	if (r < 0)
		return r;
	if (head.head != x->a->head || head.tail != x->a->tail)
		return err_set(err, -EIO, "its head and tail are %u and %u, not %u and %u",
			       head.head, head.tail, x->a->head, x->a->tail);
	if (pwrite(x->mem, x->a->events.data, x->a->events.len,
		   (off_t)(x->a->addr + AIO_RING_HEAD)) != (ssize_t)x->a->events.len)
		return err_sys(err, -EIO, "cannot write its ring");
	return 0;
}

static int finish(const struct context *x, const Cpx__Vma *v, struct err *err)
{
	struct batch b = begin(x);

	BATCH_CALL(&b, SYS_close, x->fd);
	if (v->prot != (PROT_READ | PROT_WRITE))
		BATCH_CALL(&b, SYS_mprotect, v->start, x->len, v->prot);
	return run(x, &b, "finish it", err);
}

static int make_context(struct context *x, const Cpx__Vma *v, struct err *err)
{
	int r = make(x, err);

	if (r == 0)
		r = check_size(x, err);
	if (r == 0)
		r = bring_up(x, err);
	if (r == 0)
		r = write_events(x, err);
	return r < 0 ? r : finish(x, v, err);
}

static const Cpx__AioContext *context_at(const Cpx__Mm *mm, uint64_t addr)
{
	for (size_t i = 0; i < mm->n_aio; i++)
		if (mm->aio[i]->addr == addr)
			return mm->aio[i];
	return NULL;
}

static int make_mm(const struct rings_host *h, uint32_t pid, const Cpx__Mm *mm, struct err *err)
{
	_cleanup_close_ int dir = -1, mem = -1;
	int r = proc_open(h->c->proc_fd, (pid_t)pid, 0, &dir, err);

	if (r == 0)
		r = proc_open_file(dir, "mem", O_RDWR, &mem, err);
	for (size_t i = 0; i < mm->n_vma && r == 0; i++) {
		const Cpx__Vma *v = mm->vma[i];
		struct context x = {.h = h, .pid = pid, .len = v->end - v->start, .mem = mem};

		if (v->kind != CPX__VMA__KIND__AIO)
			continue;
		x.a = context_at(mm, v->start);
		r = x.a ? make_context(&x, v, err)
			: err_set(err, -EBADMSG, "a ring has no context");
	}
	return r < 0 ? err_context(err, "task %u: asynchronous I/O", pid) : 0;
}

int aio_make(const struct rings_host *h, struct err *err)
{
	const struct image *im = h->c->image;
	int r = 0;

	for (size_t i = 0; i < im->nmms && r == 0; i++)
		if (im->mm[i]->n_aio)
			r = make_mm(h, im->mm[i]->pid, im->mm[i], err);
	return r;
}
