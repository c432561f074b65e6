/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Leases (F_SETLEASE of fcntl(2)), also while they are being broken: while an open(2) of a task of
 * the tree waits until the holder has answered. Read from the "lock:" lines of fdinfo and by
 * F_GETLEASE. The task that took the lease takes it again, because the number of its descriptor
 * comes with the signal. One that was being broken is broken again, by an open(2) that does not
 * wait, at a moment when nobody is to be told.
 * Cannot keep: how long a break has been waited for already (/proc/sys/fs/lease-break-time).
 *
 * A write lease is broken by any open(2) of the file, ours among them: see lease_is_on().
 */
#include "res/files.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

enum breaking { NOT_BREAKING, BREAKING_TO_NOTHING, BREAKING_TO_READ };

/* ---- dump ---- */

bool lease_is_on(const struct stat *st)
{
	struct proc_lock *lock = NULL;
	bool ret = false;
	size_t n = 0;

	if (proc_locks(-1, &lock, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n && !ret; i++)
		ret = lock[i].type == PROC_LOCK_LEASE && lock[i].ino == st->st_ino &&
		      lock[i].dev_major == major(st->st_dev) &&
		      lock[i].dev_minor == minor(st->st_dev);
	free(lock);
	return ret;
}

static bool is_mapped(const struct dump_ctx *c, const struct fd_probe *p)
{
	for (size_t i = 0; i < c->files->nmapped; i++)
		if (c->files->mapped[i]->dev == p->st.st_dev &&
		    c->files->mapped[i]->ino == p->st.st_ino)
			return true;
	return false;
}

static bool goes_outside(const struct dump_ctx *c, const struct fd_probe *p)
{
	struct f_owner_ex o = {0};

	return fcntl(p->dup, F_GETOWN_EX, &o) == 0 && o.pid && !owner_is_in_tree(c, &o);
}

/* Why it could not be had again; NULL: it can. While a lease is being broken, fdinfo and F_GETLEASE
 * show what is to be left of it. What it is follows: only a write lease can become a read lease, and
 * only a descriptor that is open for reading alone can have that. */
static const char *find_obstacle(const struct dump_ctx *c, const struct fd_probe *p,
				 const struct proc_lock *l)
{
	int type = fcntl(p->dup, F_GETLEASE);
	bool is_write = l->is_breaking || l->is_write;

	if (p->is_in_flight)
		return "the descriptor is on its way in a message";
	if (type != (l->is_write ? F_WRLCK : l->is_unlock ? F_UNLCK : F_RDLCK))
		return "it is not of a kind that fcntl(2) gives";
	if (l->is_breaking && l->is_unlock && (p->flags & O_ACCMODE) == O_RDONLY)
		return "it is being broken, and nothing tells whether it is one for reading or "
		       "writing";
	if (goes_outside(c, p))
		return "its signals go to a process outside of the tree";
	if (is_write && is_mapped(c, p))
		return "the file is mapped as well";
	return NULL;
}

static bool is_known(const Cpx__File *f)
{
	for (size_t i = 0; i < f->n_lock; i++)
		if (f->lock[i]->type == CPX__LOCK__TYPE__LEASE)
			return true;
	return false;
}

int lease_dump(struct dump_ctx *c, const struct fd_probe *p, const struct proc_lock *l,
	       Cpx__File *f, struct err *err)
{
	const char *obstacle;
	Cpx__Lock *item;

	/* An inherited descriptor is not duplicated again: the first has shown it. */
	if (p->dup < 0 || is_known(f))
		return 0;
	obstacle = find_obstacle(c, p, l);
	if (obstacle)
		return files_refuse(c, p, "file lease",
				    "cannot be checkpointed: '%s' is leased (F_SETLEASE): %s",
				    p->link, obstacle);
	item = MSG_NEW(Cpx__Lock, cpx__lock__init);
	if (!item || msg_append(&f->lock, &f->n_lock, item) < 0) {
		free(item);
		return err_nomem(err);
	}
	item->type = CPX__LOCK__TYPE__LEASE;
	item->write = l->is_breaking || l->is_write;
	item->breaking = !l->is_breaking ? NOT_BREAKING
			 : l->is_unlock	 ? BREAKING_TO_NOTHING
					 : BREAKING_TO_READ;
	item->end = UINT64_MAX;
	item->pid = files_tree_has(c, l->pid) ? l->pid : p->t->pid;
	return 0;
}

/* ---- restore ---- */

static void set_owner(const Cpx__File *f, int fd, struct batch *b)
{
	struct f_owner_ex o = {.type = F_OWNER_PID};

	if (f->owner && f->owner->id)
		o = (struct f_owner_ex){.type = f->owner->type, .pid = f->owner->id};
	BATCH_CALL(b, SYS_fcntl, fd, F_SETOWN_EX, batch_in(b, &o, sizeof(o)));
}

/* F_SETLEASE makes the caller the owner where there is none. Five calls at most. */
void lease_settle(const Cpx__File *f, const Cpx__Lock *l, int fd, struct batch *b)
{
	const struct f_owner_ex nobody = {.type = F_OWNER_PID};
	char self[48];

	BATCH_CALL(b, SYS_fcntl, fd, F_SETLEASE, l->write ? F_WRLCK : F_RDLCK);
	if (l->breaking) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		BATCH_CALL(b, SYS_fcntl, fd, F_SETOWN_EX, batch_in(b, &nobody, sizeof(nobody)));
		BATCH_CALL(b, SYS_openat, AT_FDCWD, batch_in_str(b, self),
			   O_NONBLOCK | O_CLOEXEC |
				   (l->breaking == BREAKING_TO_READ ? O_RDONLY : O_WRONLY));
	}
	set_owner(f, fd, b);
}

/* The open(2) has to fail: it is what others would have to wait for. */
int lease_check_call(const struct call *call, struct err *err)
{
	if (call->nr == SYS_openat)
		return call->ret == -EAGAIN ? 0
					    : err_set(err, -EIO, "a lease could not be broken again");
	if (call->ret == -EAGAIN)
		return err_set(err, -EBUSY,
			       "fd %d: another process has the file open that it had leased",
			       (int)call->arg[0]);
	return err_sys(err, call->ret, "fd %d: cannot be given its lease", (int)call->arg[0]);
}
