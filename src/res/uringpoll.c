/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io_urings of which a thread of the kernel takes the requests (IORING_SETUP_SQPOLL). The thread is one
 * of the task that made the ring, has its memory, and for ever the credentials of that moment: so the
 * task makes the ring itself, with the effective capabilities that it will have, and nobody
 * else may have it. Reads fdinfo and, for the processor that it is bound to (SQ_AFF), its affinity.
 *
 * Cannot see: how long the thread looks for requests before it sleeps (sq_thread_idle).
 */
#include "res/uring.h"

#include "res/attr.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>

static int refuse_ring(struct uring_look *l, const char *why, struct err *err)
{
	l->is_refused = true;
	return files_refuse(l->c, l->p, "io_uring", "cannot be checkpointed: %s", why) < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- dump ---- */

static bool is_sq_thread(const struct dump_ctx *c, pid_t pid, pid_t tid)
{
	_cleanup_close_ int dir = -1;
	char comm[64] = "";

	return proc_open(c->proc_fd, pid, tid, &dir, NULL) == 0 &&
	       proc_comm(dir, comm, sizeof(comm), NULL) == 0 && strncmp(comm, "iou-sqp-", 8) == 0;
}

/* 0: free to run anywhere, or more than one; else the processor's number, plus one. */
static unsigned bound_to(pid_t tid)
{
	cpu_set_t set;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || sched_getaffinity(tid, sizeof(set), &set) < 0 ||
	    CPU_COUNT(&set) != 1)
		return 0;
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			return i + 1;
	return 0;
}

/* The threads of a task, of which nothing tells which is of which ring. */
static int read_affinity(struct uring_look *l, struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *tid = NULL;
	unsigned cpu = 0, threads = 0;
	size_t n = 0;
	int r = attr_open(l->c, l->p->t, NULL, &dir, err);

	if (r == 0)
		r = proc_tids(dir, &tid, &n, err);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (!is_sq_thread(l->c, l->p->t->pid, tid[i]))
			continue;
		if (threads++ && cpu != bound_to(tid[i]))
			return refuse_ring(l,
					   "its thread is one of several that are bound to "
					   "different processors",
					   err);
		cpu = bound_to(tid[i]);
	}
	if (r == 0 && !threads)
		return refuse_ring(l, "its thread is another task's", err);
	if (cpu) {
		l->b->flags |= IORING_SETUP_SQ_AFF;
		l->b->sq_cpu = cpu - 1;
	}
	return r;
}

int uring_read_thread(struct uring_look *l, struct err *err)
{
	uint64_t id;

	if (!proc_field_u64(l->info, "SqThread", 10, &id))
		return 0; /* -1 */
	l->b->flags |= IORING_SETUP_SQPOLL;
	l->b->sq_thread = id;
	if (l->b->n_overflow)
		return refuse_ring(l, "results have overflowed, and a thread of the kernel is at work",
				   err);
	if (*uring_word(&l->view, l->params.sq_off.head) !=
	    *uring_word(&l->view, l->params.sq_off.tail)) {
		l->c->npassing++;
		return refuse_ring(l, "the kernel is taking requests from it", err);
	}
	return read_affinity(l, err);
}

static bool is_shared(const struct dump_ctx *c, const Cpx__File *f)
{
	const struct file_entry *e = files_entry(c, f);

	for (size_t i = 0; i < c->files->ntables; i++)
		for (size_t k = 0; k < c->files->table[i].table->n_fd; k++)
			if (c->files->table[i].table->fd[k]->file == f->id &&
			    c->files->table[i].t != e->t)
				return true;
	for (size_t i = 0; i < c->files->nuring_maps; i++)
		if (c->files->uring_map[i].ino == e->ino && c->files->uring_map[i].dev == e->dev &&
		    c->files->uring_map[i].t != e->t->mm_owner)
			return true;
	return false;
}

static bool shares_thread(const struct dump_ctx *c, const Cpx__File *f)
{
	for (size_t i = 0; i < c->files->n; i++) {
		const Cpx__File *other = c->files->entry[i]->file;

		if (other != f && other->uring && other->uring->sq_thread == f->uring->sq_thread)
			return true;
	}
	return false;
}

int uring_thread_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const char *why = NULL;

	if (!(f->uring->flags & IORING_SETUP_SQPOLL))
		return 0;
	if (is_shared(c, f))
		why = "several tasks have it, and it has a thread of the kernel (SQPOLL)";
	else if (shares_thread(c, f))
		why = "it has its thread of the kernel together with another ring (ATTACH_WQ)";
	return why && files_refuse_entry(c, f, "io_uring", "cannot be checkpointed: %s", why) < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- restore ---- */

static const Cpx__Thread *thread_of(const struct image *im, uint32_t tid, const Cpx__Task **ret)
{
	for (size_t i = 0; i < im->ntasks; i++)
		for (size_t k = 0; k < im->task[i]->n_thread; k++)
			if (im->task[i]->thread[k]->tid == tid) {
				*ret = im->task[i];
				return im->task[i]->thread[k];
			}
	return NULL;
}

int uring_thread_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const struct attr_self *own;
	const Cpx__Task *task = NULL;
	const Cpx__Thread *th = thread_of(c->image, f->uring->owner, &task);
	int r;

	if (!(f->uring->flags & IORING_SETUP_SQPOLL))
		return 0;
	if (!th || !th->creds)
		return err_set(err, -EBADMSG, "an io_uring belongs to no thread");
	r = attr_self_get(c, &own, err);
	if (r < 0 || creds_has_own_ids(c, th->creds, own))
		return r;
	return files_refuse_restore(
		c, f, "io_uring",
		"cannot be restored: it has a thread of the kernel (SQPOLL), which would run with the "
		"user and groups of cpx for ever: restore it as user %u",
		th->creds->euid);
}

static int run(const struct rings_host *h, uint32_t tid, const struct batch *b, struct err *err)
{
	int r = h->run(h->engine, tid, b, err);

	for (unsigned i = 0; i < b->n && r == 0; i++)
		if (batch_ret(b, i) < 0)
			r = err_sys(err, (int)batch_ret(b, i), "cannot be made in its task");
	return r;
}

static int make(const struct rings_host *h, const Cpx__File *f, uint32_t flags, int *ret,
		struct err *err)
{
	const Cpx__Uring *u = f->uring;
	struct io_uring_params p = {
		.flags = flags, .cq_entries = u->cq_entries, .sq_thread_cpu = u->sq_cpu};
	struct batch b = h->batch(h->engine, u->owner);
	const struct attr_self *own;
	const Cpx__Task *task;
	unsigned made;
	int r = attr_self_get(h->c, &own, err);

	if (r < 0)
		return r;
	creds_lend(&b, thread_of(h->c->image, u->owner, &task)->creds, own);
	made = BATCH_CALL(&b, SYS_io_uring_setup, u->sq_entries, batch_in(&b, &p, sizeof(p)));
	creds_take_back(&b, own);
	r = run(h, u->owner, &b, err);
	*ret = (int)batch_ret(&b, made);
	return r;
}

/* A duplicate for us. */
static int take(pid_t pid, int fd, struct err *err)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), dup = -1;

	if (pidfd >= 0)
		dup = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (dup < 0 || dup3(dup, fd, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "cannot be taken over");
	return 0;
}

int uring_thread_make(const struct rings_host *h, const Cpx__File *f, const Cpx__Task *task,
		      uint32_t flags, int fd, struct err *err)
{
	const int settable = O_APPEND | O_NONBLOCK | O_NOATIME;
	struct batch b;
	int at, r = make(h, f, flags, &at, err);

	if (r < 0)
		return r;
	b = h->batch(h->engine, f->uring->owner);
	BATCH_CALL(&b, SYS_dup3, at, fd, O_CLOEXEC);
	BATCH_CALL(&b, SYS_close, at);
	BATCH_CALL(&b, SYS_fcntl, fd, F_SETFL, (int)f->flags & settable);
	r = run(h, f->uring->owner, &b, err);
	return r < 0 ? r : take((pid_t)task->pid, fd, err);
}
