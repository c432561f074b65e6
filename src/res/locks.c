/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File locks (flock(2), POSIX and OFD locks of fcntl(2)) and the owners of signals of descriptions.
 *
 * Locks are read from the "lock:" lines of /proc/PID/fdinfo. flock and OFD locks belong to the
 * description: taken by cpx on the one that the tasks inherit. POSIX locks belong to a task, which
 * sets them itself, when it will close no descriptor any more. A lock that is only waited for is no
 * state: the task asks for it again. Leases: lease.c.
 */
#include "res/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/syscall.h>

/* ---- dump: locks ---- */

static bool has_lock(const Cpx__File *f, const struct proc_lock *l, Cpx__Lock__Type type,
		     uint32_t pid)
{
	for (size_t i = 0; i < f->n_lock; i++)
		if (f->lock[i]->type == type && f->lock[i]->pid == pid &&
		    f->lock[i]->start == l->start && f->lock[i]->end == l->end)
			return true;
	return false;
}

/* The task that set a POSIX lock; the one that has the descriptor when that is not in the tree
 * (a descriptor table that was shared with a process that has ended). */
static pid_t owner_of(const struct dump_ctx *c, const struct fd_probe *p, pid_t pid)
{
	return files_tree_has(c, pid) ? pid : p->t->pid;
}

static int add_lock(struct dump_ctx *c, const struct fd_probe *p, const struct proc_lock *l,
		    Cpx__File *f, struct err *err)
{
	Cpx__Lock__Type type = l->type == PROC_LOCK_FLOCK ? CPX__LOCK__TYPE__FLOCK
			       : l->type == PROC_LOCK_OFD ? CPX__LOCK__TYPE__OFD
							  : CPX__LOCK__TYPE__POSIX;
	uint32_t pid = l->type == PROC_LOCK_POSIX ? owner_of(c, p, l->pid) : 0;
	Cpx__Lock *item;

	if (has_lock(f, l, type, pid))
		return 0;
	item = msg_new(sizeof(*item), (void (*)(void *))cpx__lock__init);
	if (!item || msg_append(&f->lock, &f->n_lock, item) < 0) {
		free(item);
		return err_nomem(err);
	}
	item->type = type;
	item->write = l->is_write;
	item->start = l->start;
	item->end = l->end;
	item->pid = pid;
	return 0;
}

int locks_dump(struct dump_ctx *c, const struct fd_probe *p, const struct proc_fdinfo *info,
	       Cpx__File *f, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < info->nlocks; i++) {
		if (info->lock[i].type == PROC_LOCK_LEASE)
			r = lease_dump(c, p, &info->lock[i], f, err);
		else
			r = add_lock(c, p, &info->lock[i], f, err);
	}
	return r;
}

/* ---- dump: owner ---- */

bool owner_is_in_tree(const struct dump_ctx *c, const struct f_owner_ex *o)
{
	for (size_t i = 0; c->tree && i < c->tree->n; i++) {
		const struct tracee *t = c->tree->task[i];

		if (t->pid == o->pid)
			return true;
		for (size_t k = 0; o->type == F_OWNER_TID && k < t->nthreads; k++)
			if (t->thread[k].tid == o->pid)
				return true;
	}
	return false;
}

/* The owner of a description that will send no signal need not be known; one outside of the tree
 * that would get signals cannot be kept. */
int owner_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct f_owner_ex o = {0};
	int signo;

	if ((p->flags & O_PATH) || fcntl(p->dup, F_GETOWN_EX, &o) < 0 ||
	    (signo = fcntl(p->dup, F_GETSIG)) < 0)
		return 0;
	if (o.pid && !owner_is_in_tree(c, &o)) {
		if (p->flags & O_ASYNC)
			return files_refuse(c, p, "O_ASYNC",
					    "cannot be checkpointed: its signals go to process %d, "
					    "which is outside of the tree",
					    o.pid);
		o.pid = 0;
	}
	if (!o.pid && !signo)
		return 0;
	f->owner = msg_new(sizeof(*f->owner), (void (*)(void *))cpx__owner__init);
	if (!f->owner)
		return err_nomem(err);
	f->owner->type = o.type;
	f->owner->id = o.pid;
	f->owner->signo = signo;
	return 0;
}

/* ---- restore ---- */

static struct flock flock_of(const Cpx__Lock *l)
{
	return (struct flock){
		.l_type = l->write ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = l->start,
		.l_len = l->end == UINT64_MAX ? 0 : l->end - l->start + 1,
	};
}

static int take(const Cpx__Lock *l, int fd)
{
	struct flock fl = flock_of(l);

	if (l->type == CPX__LOCK__TYPE__FLOCK)
		return flock(fd, (l->write ? LOCK_EX : LOCK_SH) | LOCK_NB);
	return l->type == CPX__LOCK__TYPE__OFD ? fcntl(fd, F_OFD_SETLK, &fl) : 0;
}

int locks_take(const Cpx__File *f, int fd, struct err *err)
{
	for (size_t i = 0; i < f->n_lock; i++)
		if (take(f->lock[i], fd) < 0)
			return errno == EAGAIN || errno == EACCES
				       ? err_set(err, -EBUSY,
						 "another process holds a lock that it had")
				       : err_sys(err, -errno, "cannot lock it again");
	return 0;
}

int locks_settle(const Cpx__File *f, const Cpx__Task *task, int fd, struct batch *b, size_t *from,
		 struct err *err)
{
	for (; *from < f->n_lock; (*from)++) {
		const Cpx__Lock *l = f->lock[*from];
		struct flock fl = flock_of(l);

		if ((l->type != CPX__LOCK__TYPE__POSIX && l->type != CPX__LOCK__TYPE__LEASE) ||
		    l->pid != task->pid)
			continue;
		if (batch_is_tight(b, 5, 256))
			return 1;
		if (l->type == CPX__LOCK__TYPE__LEASE)
			lease_settle(f, l, fd, b);
		else
			BATCH_CALL(b, SYS_fcntl, fd, F_SETLK, batch_in(b, &fl, sizeof(fl)));
	}
	return 0;
}

int owner_settle(const Cpx__File *f, int fd, struct batch *b)
{
	struct f_owner_ex o;

	if (f->owner) {
		o = (struct f_owner_ex){.type = f->owner->type, .pid = f->owner->id};
		if (o.pid)
			BATCH_CALL(b, SYS_fcntl, fd, F_SETOWN_EX, batch_in(b, &o, sizeof(o)));
		if (f->owner->signo)
			BATCH_CALL(b, SYS_fcntl, fd, F_SETSIG, f->owner->signo);
	}
	if (f->flags & O_ASYNC)
		BATCH_CALL(b, SYS_fcntl, fd, F_SETFL, f->flags);
	return 0;
}
