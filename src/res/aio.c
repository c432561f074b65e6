/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts of asynchronous I/O (io_setup(2)): dump. Their ring with what is in it, by /proc/PID/mem;
 * its address is the context's id. A mapping that a child has inherited is no context: io_getevents(2)
 * tells, asked for no events.
 *
 * Requests in flight are not shown by anything. Reads and writes are in flight only on files without
 * buffers (O_DIRECT): so the disks of those must be idle (/sys/dev/block). A task that waits for
 * results and has nobody else to make requests has one in flight. Contexts on which polls were made
 * (IOCB_CMD_POLL, seen by what the last results point to) are refused, because these may take for ever.
 */
#include "res/aio.h"

#include "base/kabi.h"
#include "res/attr.h"
#include "res/files.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#define AIO_MAGIC 0xa10a10a1U
#define LOOK_BACK 64 /* results whose requests are looked at */

bool aio_is_map(const struct proc_vma *v)
{
	return v->is_shared && strcmp(v->path, "/[aio]") == 0;
}

static int read_mem(int dir, uint64_t addr, void *buf, size_t size, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r = proc_open_file(dir, "mem", O_RDONLY, &fd, err);

	if (r < 0)
		return r;
	if (pread(fd, buf, size, (off_t)addr) != (ssize_t)size)
		return err_sys(err, -EIO, "cannot read the ring of asynchronous I/O");
	return 0;
}

int aio_add(Cpx__Mm *mm, int dir, const Cpx__Vma *vma, struct err *err)
{
	Cpx__AioContext *a = MSG_NEW(Cpx__AioContext, cpx__aio_context__init);
	struct aio_head head;

	if (!a || msg_append(&mm->aio, &mm->n_aio, a) < 0) {
		free(a);
		return err_nomem(err);
	}
	a->addr = vma->start;
	a->nr = (vma->end - vma->start - AIO_RING_HEAD) / AIO_EVENT_SIZE;
	a->events.data = calloc(1, vma->end - vma->start - AIO_RING_HEAD);
	if (!a->events.data)
		return err_nomem(err);
	a->events.len = vma->end - vma->start - AIO_RING_HEAD;
	if (read_mem(dir, a->addr, &head, sizeof(head), err) < 0)
		return err->code;
	a->tail = head.tail;
	return 0;
}

/* ---- requests in flight ---- */

static int refuse_context(struct dump_ctx *c, const struct tracee *t, const Cpx__AioContext *a,
			  const char *why, struct err *err)
{
	char object[64];

	snprintf(object, sizeof(object), "asynchronous I/O context %#llx",
		 (unsigned long long)a->addr);
	return attr_refuse(c, t, object, err, "cannot be checkpointed: %s", why);
}

static bool is_disk_busy(dev_t dev)
{
	unsigned long long reads = 0, writes = 0;
	_cleanup_fclose_ FILE *f = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/inflight", major(dev), minor(dev));
	f = fopen(path, "re");
	return f && fscanf(f, "%llu %llu", &reads, &writes) == 2 && reads + writes > 0;
}

static bool is_direct(const struct file_entry *e)
{
	const Cpx__File *f = e->file;

	return f->regular && f->flags & O_DIRECT;
}

static bool is_any_disk_busy(const struct dump_ctx *c)
{
	const struct timespec settling = {.tv_nsec = 1000000};
	bool is_busy = false, is_any = false;

	for (size_t i = 0; i < c->files->n && !is_busy; i++) {
		const struct file_entry *e = c->files->entry[i];

		is_any |= is_direct(e);
		is_busy = is_direct(e) && is_disk_busy(e->dev);
	}
	/* From the disk's answer to the event. */
	if (is_any && !is_busy)
		nanosleep(&settling, NULL);
	return is_busy;
}

/* In io_getevents without a limit of time, alone. */
static bool waits_alone(const struct tracee *t, const Cpx__AioContext *a)
{
	const struct arch_regs *regs = &t->thread[0].regs;

	return t->nthreads == 1 && arch_syscall_nr(regs) == SYS_io_getevents &&
	       arch_syscall_arg(regs, 0) == a->addr && arch_syscall_arg(regs, 1) > 0 &&
	       !arch_syscall_arg(regs, 4);
}

static bool is_poll(int dir, uint64_t request)
{
	struct iocb iocb;

	return request && read_mem(dir, request, &iocb, sizeof(iocb), NULL) == 0 &&
	       iocb.aio_lio_opcode == IOCB_CMD_POLL;
}

static bool had_polls(int dir, const Cpx__AioContext *a)
{
	for (uint32_t i = 1; i <= MIN(a->nr, (uint32_t)LOOK_BACK); i++) {
		struct io_event e;

		memcpy(&e, a->events.data + (size_t)((a->tail + a->nr - i) % a->nr) * sizeof(e),
		       sizeof(e));
		if (is_poll(dir, e.obj))
			return true;
	}
	return false;
}

/* ---- when all descriptors are known ---- */

/* 1: refused */
static int refused(int r)
{
	return r < 0 ? r : 1;
}

static int read_ring(struct dump_ctx *c, const struct tracee *t, int dir, Cpx__AioContext *a,
		     struct err *err)
{
	struct aio_head head;
	uint32_t tail = a->tail;
	int r = read_mem(dir, a->addr, &head, sizeof(head), err);

	if (r == 0)
		r = read_mem(dir, a->addr + AIO_RING_HEAD, a->events.data, a->events.len, err);
	if (r < 0)
		return r;
	a->head = head.head;
	a->tail = head.tail;
	if (head.magic != AIO_MAGIC || head.nr != a->nr || head.length != AIO_RING_HEAD ||
	    a->head >= a->nr || a->tail >= a->nr)
		return refused(refuse_context(c, t, a, "its ring is not whole", err));
	if (a->tail == tail)
		return 0;
	c->npassing++;
	return refused(refuse_context(c, t, a, "requests are in flight: try again", err));
}

static int check_live(struct dump_ctx *c, struct tracee *t, const Cpx__AioContext *a,
		      struct err *err)
{
	struct batch b;
	int r;

	if (c->check_only)
		return 0;
	b = tracee_batch(t);
	BATCH_CALL(&b, SYS_io_getevents, a->addr, 0, 0, 0, 0);
	r = tracee_run(t, &b, err);
	if (r == 0 && batch_ret(&b, 0) < 0)
		r = refused(refuse_context(c, t, a,
					   "the ring was inherited from another process, whose "
					   "context it is",
					   err));
	return r;
}

static int check_idle(struct dump_ctx *c, const struct tracee *t, int dir, const Cpx__AioContext *a,
		      struct err *err)
{
	if (waits_alone(t, a)) {
		c->npassing++;
		return refuse_context(c, t, a, "it waits for a request that is in flight", err);
	}
	if (had_polls(dir, a))
		return refuse_context(c, t, a,
				      "descriptors were polled by it (IOCB_CMD_POLL), and polls in "
				      "flight cannot be seen",
				      err);
	return 0;
}

static int complete_context(struct dump_ctx *c, struct tracee *t, int dir, Cpx__AioContext *a,
			    struct err *err)
{
	int r = check_live(c, t, a, err);

	if (r == 0 && is_any_disk_busy(c)) {
		c->npassing++;
		return refuse_context(c, t, a,
				      "a disk that it may be using is at work: try again", err);
	}
	if (r == 0)
		r = read_ring(c, t, dir, a, err);
	return r == 0 ? check_idle(c, t, dir, a, err) : MIN(r, 0);
}

static int complete_mm(struct dump_ctx *c, struct tracee *t, const Cpx__Mm *mm, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = attr_open(c, t, NULL, &dir, err);

	for (size_t i = 0; i < mm->n_aio && r == 0; i++)
		r = complete_context(c, t, dir, mm->aio[i], err);
	return r;
}

int aio_complete(struct dump_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; c->tree && i < c->tree->n && r == 0; i++) {
		struct tracee *t = c->tree->task[i];
		const Cpx__Mm *mm = t->is_zombie || t->mm_owner != t ? NULL : attr_recall_mm(c, t);

		if (mm && mm->n_aio)
			r = complete_mm(c, t, mm, err);
	}
	return r;
}
