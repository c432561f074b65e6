/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of the tasks of a frozen tree: each open file description is recorded once, however
 * many descriptors of however many tasks refer to it, and each descriptor table once.
 *
 * Reads /proc/PID/fd, /proc/PID/fdinfo; duplicates every descriptor by pidfd_getfd(2), for as long
 * as it is looked at. Two descriptors are of one description when kcmp(2) says so; its order makes
 * the search logarithmic. Only those with the same inode and flags are compared at all. Where kcmp
 * is denied, a mark that is set on one and looked for on the other tells (F_SETSIG, which has no
 * effect without O_ASYNC and is put back at once).
 */
#include "res/files.h"
#include "res/aio.h"
#include "res/uring.h"
#include "res/objects.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* A thread of the task that still has a descriptor table. */
struct holder {
	struct tracee *t;
	pid_t tid;
	int pidfd;		       /* of that thread; owned only if it is not the tracee's */
	int dir;		       /* /proc/PID/task/TID */
	const Cpx__FdTable *inherited; /* the parent's, NULL if unknown */
};

static void holder_release(struct holder *h)
{
	if (h->pidfd >= 0 && h->pidfd != h->t->pidfd)
		close(h->pidfd);
	if (h->dir >= 0)
		close(h->dir);
}

static int pidfd_of(struct tracee *t, pid_t tid, int *ret, struct err *err)
{
	int fd = t->pidfd;

	if (tid != t->pid)
		fd = syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	if (fd < 0)
		return err_sys(err, -errno,
			       "cannot get at the descriptors of a task whose leader has exited "
			       "(Linux 6.9 can)");
	*ret = fd;
	return 0;
}

static int holder_open(struct dump_ctx *c, struct tracee *t, struct holder *ret, struct err *err)
{
	struct holder h = {.t = t, .tid = t->pid, .pidfd = -1, .dir = -1};
	int r;

	for (size_t i = 0; i < t->nthreads; i++)
		if (!t->thread[i].is_exited) {
			h.tid = t->thread[i].tid;
			break;
		}
	r = pidfd_of(t, h.tid, &h.pidfd, err);
	if (r == 0)
		r = proc_open(c->proc_fd, t->pid, h.tid, &h.dir, err);
	if (r < 0) {
		holder_release(&h);
		return r;
	}
	*ret = h;
	return 0;
}

struct file_table *files_table_of(struct dump_ctx *c)
{
	if (!c->files)
		c->files = calloc(1, sizeof(*c->files));
	return c->files;
}

bool files_tree_has(const struct dump_ctx *c, pid_t pid)
{
	for (size_t i = 0; c->tree && i < c->tree->n; i++)
		if (c->tree->task[i]->pid == pid)
			return true;
	return false;
}

struct file_entry *files_entry(const struct dump_ctx *c, const Cpx__File *f)
{
	return c->files->entry[f->id - 1];
}

/* ---- the table of descriptions ---- */

static int compare_u64(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_key(const struct file_entry *e, const struct fd_probe *p)
{
	int r = compare_u64(e->dev, p->st.st_dev);

	if (!r)
		r = compare_u64(e->ino, p->st.st_ino);
	if (!r)
		r = compare_u64(e->file->flags, p->flags);
	return r; /* not the position: others that share the description may be running */
}

/* First of the sorted descriptions that is not below the key (strict) or is above it. */
static size_t key_bound(const struct file_table *ft, const struct fd_probe *p, bool is_upper)
{
	size_t lo = 0, hi = ft->nsorted;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = compare_key(ft->sorted[mid], p);

		if (r < 0 || (is_upper && r == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int kcmp(pid_t a, pid_t b, int type, unsigned long x, unsigned long y)
{
	int r;

	if (is_denied("kcmp"))
		return -EPERM;
	r = syscall(SYS_kcmp, a, b, type, x, y);
	return r < 0 ? -errno : r;
}

/* The mark, where kcmp(2) is denied. 1 same, 0 not. */
static int is_marked_alike(const struct file_entry *e, const struct fd_probe *p, struct err *err)
{
	_cleanup_close_ int other = e->in_flight >= 0
					    ? fcntl(e->in_flight, F_DUPFD_CLOEXEC, 0)
					    : syscall(SYS_pidfd_getfd, e->t->pidfd, e->fd, 0);
	int old = fcntl(p->dup, F_GETSIG), got;

	if (p->flags & O_PATH) /* such descriptions hold no state that could be shared */
		return 1;
	if (other < 0 || old < 0)
		return err_sys(err, -errno, "fd %d: cannot be compared", p->fd);
	if (fcntl(other, F_GETSIG) != old)
		return 0;
	if (p->flags & O_ASYNC)
		return err_set(err, -EPERM,
			       "fd %d: cannot be compared: kcmp(2) is denied and O_ASYNC is set",
			       p->fd);
	if (fcntl(p->dup, F_SETSIG, old ? 0 : SIGIO) < 0)
		return err_sys(err, -errno, "fd %d: cannot be compared", p->fd);
	got = fcntl(other, F_GETSIG);
	fcntl(p->dup, F_SETSIG, old);
	return got != old;
}

/* Returns 1 and the index of the description, or 0 and the index where it belongs. */
static int search_marked(struct file_table *ft, const struct fd_probe *p, size_t lo, size_t hi,
			 size_t *ret, struct err *err)
{
	for (; lo < hi; lo++) {
		int r = is_marked_alike(ft->sorted[lo], p, err);

		if (r) {
			*ret = lo;
			return r;
		}
	}
	*ret = hi;
	return 0;
}

/* The same by kcmp(2); -EPERM when that is denied. */
static int search_ordered(const struct file_table *ft, const struct fd_probe *p, pid_t tid,
			  size_t low, size_t high, size_t *ret)
{
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct file_entry *e = ft->sorted[mid];
		int r = kcmp(e->tid, tid, KCMP_FILE, e->fd, p->fd);

		if (r == 0) {
			*ret = mid;
			return 1;
		}
		if (r == 1) /* e < p */
			low = mid + 1;
		else if (r == 2)
			high = mid;
		else
			return -EPERM;
	}
	*ret = low;
	return 0;
}

static int search(struct file_table *ft, const struct fd_probe *p, pid_t tid, size_t *ret,
		  struct err *err)
{
	size_t lo = key_bound(ft, p, false), hi = key_bound(ft, p, true);
	int r = ft->kcmp_denied ? -EPERM : search_ordered(ft, p, tid, lo, hi, ret);

	if (r >= 0)
		return r;
	ft->kcmp_denied = true;
	return search_marked(ft, p, lo, hi, ret, err);
}

struct file_entry *files_find_same(const struct dump_ctx *c, const struct fd_probe *p, pid_t tid)
{
	const struct file_table *ft = c->files;
	size_t at, lo = key_bound(ft, p, false), hi = key_bound(ft, p, true);

	return search_ordered(ft, p, tid, lo, hi, &at) == 1 ? ft->sorted[at] : NULL;
}

void files_watch_same(struct dump_ctx *c)
{
	c->files->watch_same = true;
}

static int insert_at(void *array, size_t *n, size_t *max, size_t at, const void *item, size_t size)
{
	uint8_t *base;

	if (grow(array, max, *n, size) < 0)
		return -ENOMEM;
	base = *(uint8_t **)array;
	memmove(base + (at + 1) * size, base + at * size, (*n - at) * size);
	memcpy(base + at * size, item, size);
	(*n)++;
	return 0;
}

static struct file_entry *entry_new(struct file_table *ft, struct tracee *t, pid_t tid, int fd)
{
	struct file_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	*e = (struct file_entry){.t = t, .tid = tid, .fd = fd, .in_flight = -1};
	e->file = msg_new(sizeof(*e->file), (void (*)(void *))cpx__file__init);
	if (!e->file || insert_at(&ft->entry, &ft->n, &ft->max, ft->n, &e, sizeof(e)) < 0) {
		free(e->file);
		free(e);
		return NULL;
	}
	e->file->id = ft->n;
	return e;
}

static const struct file_ops *find_ops(const struct fd_probe *p)
{
	size_t i = 0;

	while (!file_registry[i]->match(p))
		i++; /* the last one matches everything */
	return file_registry[i];
}

static int add_description(struct dump_ctx *c, const struct fd_probe *p, pid_t tid, size_t at,
			   struct file_entry **ret, struct err *err)
{
	struct file_table *ft = c->files;
	struct file_entry *e = entry_new(ft, p->t, tid, p->fd);
	int r;

	if (!e)
		return err_nomem(err);
	e->ops = find_ops(p);
	e->dev = p->st.st_dev;
	e->ino = p->st.st_ino;
	e->file->flags = p->flags;
	e->file->pos = p->pos;
	if (insert_at(&ft->sorted, &ft->nsorted, &ft->maxsorted, at, &e, sizeof(e)) < 0)
		return err_nomem(err);
	r = owner_dump(c, p, e->file, err);
	if (r == 0)
		r = e->ops->dump(c, p, e->file, err);
	if (r < 0)
		return err_context(err, "fd %d (%s)", p->fd, e->ops->name);
	*ret = e;
	return 0;
}

/* ---- one table ---- */

static int probe(const struct holder *h, int fd, struct fd_probe *p, struct proc_fdinfo *info,
		 struct err *err)
{
	char name[32];
	int r;

	*p = (struct fd_probe){
		.t = h->t, .fd = fd, .dup = syscall(SYS_pidfd_getfd, h->pidfd, fd, 0)};
	if (p->dup < 0)
		return err_sys(err, -errno, "fd %d: cannot be duplicated", fd);
	r = proc_fdinfo(h->dir, fd, info, err);
	if (r < 0)
		return err_context(err, "fd %d", fd);
	if (fstat(p->dup, &p->st) < 0)
		return err_sys(err, -errno, "fd %d: cannot be examined", fd);
	p->cloexec = info->flags & O_CLOEXEC;
	p->flags = info->flags & ~O_CLOEXEC;
	p->pos = info->pos;
	snprintf(name, sizeof(name), "fd/%d", fd);
	return proc_link(h->dir, name, p->link, sizeof(p->link), err);
}

static int append_fd(Cpx__FdTable *table, const struct fd_probe *p, uint32_t file, struct err *err)
{
	Cpx__Fd *item = msg_new(sizeof(*item), (void (*)(void *))cpx__fd__init);

	if (!item || msg_append(&table->fd, &table->n_fd, item) < 0) {
		free(item);
		return err_nomem(err);
	}
	item->fd = p->fd;
	item->file = file;
	item->cloexec = p->cloexec;
	return 0;
}

static int collect_probed(struct dump_ctx *c, const struct holder *h, const struct fd_probe *p,
			  const struct proc_fdinfo *info, Cpx__FdTable *table, struct err *err)
{
	struct file_entry *e = NULL;
	size_t at = 0;
	int r = search(c->files, p, h->tid, &at, err);

	if (r < 0)
		return r;
	if (r > 0)
		e = c->files->sorted[at];
	else if ((r = add_description(c, p, h->tid, at, &e, err)) < 0)
		return r;
	r = locks_dump(c, p, info, e->file, err);
	return r < 0 ? r : append_fd(table, p, e->file->id, err);
}

/* ---- descriptors on their way ---- */

static int probe_own(struct dump_ctx *c, struct tracee *t, int fd, struct fd_probe *p,
		     struct proc_fdinfo *info, struct err *err)
{
	struct holder self = {.t = t, .tid = getpid(), .pidfd = -1, .dir = -1};
	int r = proc_open(c->proc_fd, getpid(), 0, &self.dir, err);
	char name[32];

	if (r < 0)
		return r;
	_cleanup_close_ int dir = self.dir;
	*p = (struct fd_probe){.t = t, .fd = fd, .dup = fd, .is_in_flight = true};
	r = proc_fdinfo(dir, fd, info, err);
	if (r < 0)
		return r;
	if (fstat(fd, &p->st) < 0)
		return err_sys(err, -errno, "cannot be examined");
	p->flags = info->flags & ~O_CLOEXEC;
	p->pos = info->pos;
	snprintf(name, sizeof(name), "fd/%d", fd);
	return proc_link(dir, name, p->link, sizeof(p->link), err);
}

static int add_own(struct dump_ctx *c, const struct fd_probe *p, const struct proc_fdinfo *info,
		   int *fd, uint32_t *ret_id, struct err *err)
{
	struct file_entry *e = NULL;
	size_t at = 0;
	int r = search(c->files, p, getpid(), &at, err);

	if (r < 0)
		return r;
	if (r > 0) {
		e = c->files->sorted[at];
	} else {
		r = add_description(c, p, getpid(), at, &e, err);
		if (r < 0)
			return r;
	}
	if (e->fd == *fd && e->tid == getpid())
		e->in_flight = TAKE_FD(*fd);
	r = locks_dump(c, p, info, e->file, err);
	*ret_id = e->file->id;
	return r;
}

int files_add_in_flight(struct dump_ctx *c, struct tracee *t, int fd, uint32_t *ret_id,
			struct err *err)
{
	_cleanup_free_ struct fd_probe *p = malloc(sizeof(*p));
	_cleanup_close_ int owned = fd;
	struct proc_fdinfo info = {0};
	int r;

	if (!p)
		return err_nomem(err);
	r = probe_own(c, t, fd, p, &info, err);
	if (r == 0)
		r = add_own(c, p, &info, &owned, ret_id, err);
	proc_fdinfo_release(&info);
	return r < 0 ? err_context(err, "a descriptor on its way in a message") : 0;
}

uint32_t files_at(const Cpx__FdTable *t, uint32_t fd)
{
	size_t lo = 0, hi = t ? t->n_fd : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->fd[mid]->fd == fd)
			return t->fd[mid]->file;
		if (t->fd[mid]->fd < fd)
			lo = mid + 1;
		else
			hi = mid;
	}
	return 0;
}

/* Most descriptors are those of the parent, at the same numbers: then all but close-on-exec and
 * locks is known. */
static struct file_entry *find_inherited(struct dump_ctx *c, const struct holder *h, int fd)
{
	uint32_t id = files_at(h->inherited, fd);
	struct file_entry *e = id ? c->files->entry[id - 1] : NULL;

	return e && kcmp(e->tid, h->tid, KCMP_FILE, e->fd, fd) == 0 ? e : NULL;
}

static int collect_inherited(struct dump_ctx *c, const struct holder *h, struct file_entry *e,
			     struct fd_probe *p, struct proc_fdinfo *info, Cpx__FdTable *table,
			     struct err *err)
{
	int r = proc_fdinfo(h->dir, p->fd, info, err);

	if (r < 0)
		return err_context(err, "fd %d", p->fd);
	p->cloexec = info->flags & O_CLOEXEC;
	r = locks_dump(c, p, info, e->file, err);
	return r < 0 ? r : append_fd(table, p, e->file->id, err);
}

static int collect_fd(struct dump_ctx *c, const struct holder *h, int fd, struct fd_probe *p,
		      Cpx__FdTable *table, struct err *err)
{
	struct file_entry *e = find_inherited(c, h, fd);
	struct proc_fdinfo info = {0};
	int r;

	if (e) {
		*p = (struct fd_probe){.t = h->t, .fd = fd, .dup = -1};
		r = collect_inherited(c, h, e, p, &info, table, err);
	} else {
		r = probe(h, fd, p, &info, err);
		if (r == 0)
			r = collect_probed(c, h, p, &info, table, err);
	}
	proc_fdinfo_release(&info);
	if (p->dup >= 0)
		close(p->dup);
	return r;
}

static int collect_all(struct dump_ctx *c, const struct holder *h, Cpx__FdTable *table,
		       struct err *err)
{
	_cleanup_free_ struct fd_probe *p = malloc(sizeof(*p));
	_cleanup_free_ int *fd = NULL;
	size_t n = 0;
	int r;

	if (!p)
		return err_nomem(err);
	r = proc_fds(h->dir, &fd, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = collect_fd(c, h, fd[i], p, table, err);
	return r;
}

/* ---- the tables ---- */

/* kcmp is denied: only tasks that share their memory may also share descriptors, and do not say. */
static int search_table_blind(struct dump_ctx *c, const struct tracee *t, struct err *err)
{
	for (size_t i = 0; i < c->files->ntables; i++)
		if (c->files->table[i].t->mm_owner == t->mm_owner)
			return err_set(
				err, -EPERM,
				"cannot tell whether it shares its descriptors with task %d: "
				"kcmp(2) is denied",
				c->files->table[i].t->pid);
	return 0;
}

static int search_table(struct dump_ctx *c, const struct holder *h, size_t *ret, struct err *err)
{
	struct file_table *ft = c->files;
	size_t lo = 0, hi = ft->nby_kcmp;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = kcmp(ft->table[ft->by_kcmp[mid]].tid, h->tid, KCMP_FILES, 0, 0);

		if (r == 0) {
			*ret = mid;
			return 1;
		}
		if (r == 1)
			lo = mid + 1;
		else if (r == 2)
			hi = mid;
		else
			return search_table_blind(c, h->t, err);
	}
	*ret = lo;
	return 0;
}

static int refuse_own_tables(struct dump_ctx *c, const struct holder *h)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < h->t->nthreads; i++) {
		pid_t tid = h->t->thread[i].tid;

		if (h->t->thread[i].is_exited || tid == h->tid)
			continue;
		if (kcmp(h->tid, tid, KCMP_FILES, 0, 0) > 0)
			r = refuse(c->refusals, h->t->pid, h->t->comm, NULL,
				   "cannot be checkpointed: thread %d "
				   "has a descriptor table of its own (unshare(CLONE_FILES))",
				   tid);
	}
	return r;
}

static int add_table(struct dump_ctx *c, const struct holder *h, size_t at, Cpx__FdTable **ret,
		     struct err *err)
{
	struct file_table *ft = c->files;
	struct table_entry e = {.tid = h->tid, .t = h->t};
	size_t index = ft->ntables;

	e.table = msg_new(sizeof(*e.table), (void (*)(void *))cpx__fd_table__init);
	if (!e.table ||
	    insert_at(&ft->table, &ft->ntables, &ft->maxtables, index, &e, sizeof(e)) < 0) {
		free(e.table);
		return err_nomem(err);
	}
	e.table->id = ft->ntables;
	if (insert_at(&ft->by_kcmp, &ft->nby_kcmp, &ft->maxby_kcmp, at, &index, sizeof(index)) < 0)
		return err_nomem(err);
	*ret = e.table;
	return collect_all(c, h, e.table, err);
}

static int collect(struct dump_ctx *c, const struct holder *h, Cpx__FdTable **ret, struct err *err)
{
	size_t at = 0;
	int r = search_table(c, h, &at, err);

	if (r < 0)
		return r;
	if (r > 0) {
		*ret = c->files->table[c->files->by_kcmp[at]].table;
		return 0;
	}
	r = refuse_own_tables(c, h);
	return r < 0 ? err_nomem(err) : add_table(c, h, at, ret, err);
}

static const Cpx__FdTable *table_of(const struct dump_ctx *c, pid_t pid)
{
	for (size_t i = 0; i < c->files->ntables; i++)
		if (c->files->table[i].t->pid == pid)
			return c->files->table[i].table;
	return NULL;
}

int files_collect(struct dump_ctx *c, struct tracee *t, Cpx__FdTable **ret, struct err *err)
{
	Cpx__FdTable *table = NULL;
	struct holder h;
	int r;

	if (!files_table_of(c))
		return err_nomem(err);
	r = holder_open(c, t, &h, err);
	if (r < 0)
		return r;
	h.inherited = table_of(c, t->ppid);
	r = collect(c, &h, &table, err);
	holder_release(&h);
	if (r == 0)
		*ret = table;
	return r;
}

size_t files_ntables(const struct dump_ctx *c)
{
	return c->files ? c->files->ntables : 0;
}

Cpx__FdTable *files_table(const struct dump_ctx *c, size_t i)
{
	return c->files->table[i].table;
}

/* ---- mapped files ---- */

static int compare_mapped(const struct file_entry *e, const struct stat *st, uint32_t flags)
{
	int r = compare_u64(e->dev, st->st_dev);

	if (!r)
		r = compare_u64(e->ino, st->st_ino);
	return r ? r : compare_u64(e->file->flags, flags);
}

static bool search_mapped(const struct file_table *ft, const struct stat *st, uint32_t flags,
			  size_t *ret)
{
	size_t lo = 0, hi = ft->nmapped;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = compare_mapped(ft->mapped[mid], st, flags);

		if (r == 0) {
			*ret = mid;
			return true;
		}
		if (r < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret = lo;
	return false;
}

static int add_mapped(struct dump_ctx *c, const struct mapped_file *m, uint32_t flags, size_t at,
		      struct err *err)
{
	struct file_table *ft = c->files;
	struct file_entry *e = entry_new(ft, m->t, m->t->pid, -1);

	if (!e)
		return err_nomem(err);
	e->dev = m->st.st_dev;
	e->ino = m->st.st_ino;
	e->file->flags = flags;
	if (insert_at(&ft->mapped, &ft->nmapped, &ft->maxmapped, at, &e, sizeof(e)) < 0)
		return err_nomem(err);
	e->ops = memfd_is_mapped(m) ? &memfd_file_ops : &regular_file_ops;
	return e->ops == &memfd_file_ops ? memfd_dump_mapped(c, m, e->file, err)
					 : regular_dump_mapped(c, m, e->file, err);
}

/* Another mapping of a file without a name may show another part of it. */
static int add_view(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f, struct err *err)
{
	if (f->memfd)
		return memfd_add_view(c, m, f, err);
	return f->regular && f->regular->ghost ? regular_add_view(c, m, f, err) : 0;
}

int files_add_mapped(struct dump_ctx *c, struct tracee *t, const char *path, const struct stat *st,
		     bool is_deleted, bool writable_shared, bool is_private, const char *proc_link,
		     uint32_t *ret_id, struct err *err)
{
	struct mapped_file m = {.t = t,
				.path = path,
				.st = *st,
				.is_deleted = is_deleted,
				.is_private = is_private,
				.proc_link = proc_link};
	uint32_t flags = writable_shared ? O_RDWR : O_RDONLY;
	struct file_entry *e;
	size_t at = 0;
	int r;

	if (!files_table_of(c))
		return err_nomem(err);
	if (search_mapped(c->files, st, flags, &at))
		r = add_view(c, &m, c->files->mapped[at]->file, err);
	else
		r = add_mapped(c, &m, flags, at, err);
	if (r < 0)
		return err_context(err, "mapping of %s", m.path);
	e = c->files->mapped[at];
	if (is_private && e->file->regular)
		e->file->regular->mapped_private = true;
	*ret_id = e->file->id;
	return 0;
}

/* ---- after all tables ---- */

struct ends *files_ends(struct dump_ctx *c, uint64_t dev, uint64_t ino)
{
	struct file_table *ft = c->files;
	size_t lo = 0, hi = ft->nends;
	struct ends item = {.dev = dev, .ino = ino};

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int r = compare_u64(ft->ends[mid].dev, dev);

		r = r ? r : compare_u64(ft->ends[mid].ino, ino);
		if (r == 0)
			return &ft->ends[mid];
		if (r < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (insert_at(&ft->ends, &ft->nends, &ft->maxends, lo, &item, sizeof(item)) < 0)
		return NULL;
	return &ft->ends[lo];
}

int files_watch(struct dump_ctx *c, Cpx__File *f, const char *link, struct err *err)
{
	return files_watch_more(c, f, link, WATCH_LINK, 0, err);
}

int files_watch_more(struct dump_ctx *c, Cpx__File *f, const char *link, enum watch_kind kind,
		     uint64_t dev, struct err *err)
{
	struct watch w = {.link = strdup(link), .file = f, .kind = kind, .dev = dev};

	if (!w.link || insert_at(&c->files->watch, &c->files->nwatch, &c->files->maxwatch,
				 c->files->nwatch, &w, sizeof(w)) < 0) {
		free(w.link);
		return err_nomem(err);
	}
	return 0;
}

int files_complete(struct dump_ctx *c, struct err *err)
{
	int r;

	if (!files_table_of(c))
		return err_nomem(err);
	r = objects_complete(c, err);
	if (r == 0)
		r = outside_scan(c, err);
	for (size_t i = 0; r == 0 && i < c->files->n; i++)
		if (c->files->entry[i]->ops->complete)
			r = c->files->entry[i]->ops->complete(c, c->files->entry[i]->file, err);
	if (r == 0)
		r = uring_maps_complete(c, err);
	return r < 0 ? r : aio_complete(c, err);
}

size_t files_count(const struct dump_ctx *c)
{
	return c->files ? c->files->n : 0;
}

Cpx__File *files_get(const struct dump_ctx *c, size_t i)
{
	return c->files->entry[i]->file;
}

void files_release(struct dump_ctx *c)
{
	struct file_table *ft = c->files;

	if (!ft)
		return;
	for (size_t i = 0; i < ft->n; i++) {
		cpx__file__free_unpacked(ft->entry[i]->file, NULL);
		if (ft->entry[i]->in_flight >= 0)
			close(ft->entry[i]->in_flight);
		free(ft->entry[i]);
	}
	for (size_t i = 0; i < ft->ntables; i++)
		cpx__fd_table__free_unpacked(ft->table[i].table, NULL);
	for (size_t i = 0; i < ft->nwatch; i++)
		free(ft->watch[i].link);
	free(ft->entry);
	free(ft->sorted);
	free(ft->mapped);
	free(ft->table);
	free(ft->by_kcmp);
	free(ft->ends);
	free(ft->watch);
	free(ft->uring_map);
	unix_diag_release(&ft->diag);
	free(ft);
	c->files = NULL;
}
