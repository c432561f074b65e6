/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors of a tree that is being restored: everything is opened once, in the coordinator, at
 * numbers above all that the tree uses; tasks inherit it by fork, so that sharing of descriptions
 * comes by itself, and get their tables by dup3(2) and close_range(2). What only a task can do for
 * itself (POSIX locks, owners of signals, terminals) is settled when the whole tree stands.
 */
#include "base/kabi.h"
#include "res/external.h"
#include "res/ghostdir.h"
#include "res/unix.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

/* ---- opening ---- */

int fd_raise(struct restore_ctx *c, int fd, struct err *err)
{
	int raised;

	if (fd >= c->fd_base)
		return fd;
	raised = fcntl(fd, F_DUPFD_CLOEXEC, c->fd_base);
	if (raised < 0)
		raised = err_sys(err, -errno, "cannot use descriptors from %d up (RLIMIT_NOFILE)",
				 c->fd_base);
	close(fd);
	return raised;
}

static uint32_t open_flags(uint32_t flags)
{
	return (flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC)) | O_CLOEXEC | O_NOCTTY;
}

int file_open_path(struct restore_ctx *c, const char *path, uint32_t flags, struct err *err)
{
	int fd = open(path, open_flags(flags));

	if (fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", path);
	return fd_raise(c, fd, err);
}

int file_reopen(struct restore_ctx *c, int fd, uint32_t flags, struct err *err)
{
	char link[48];
	int r;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	r = open(link, open_flags(flags & ~(uint32_t)O_NOFOLLOW));
	if (r < 0)
		return err_sys(err, -errno, "cannot open it again");
	return fd_raise(c, r, err);
}

/* ---- looking things up ---- */

/* Ids count from 1 in the order of the records, unless somebody else wrote the image. */
static size_t index_of_id(const struct image *im, uint32_t id)
{
	if (id && id <= im->nfiles && im->file[id - 1]->id == id)
		return id - 1;
	for (size_t i = 0; i < im->nfiles; i++)
		if (im->file[i]->id == id)
			return i;
	return SIZE_MAX;
}

size_t files_index(const struct restore_ctx *c, const Cpx__File *f)
{
	return index_of_id(c->image, f->id);
}

int files_fd(const struct restore_ctx *c, uint32_t file_id)
{
	size_t i = index_of_id(c->image, file_id);

	return c->file_fd && i != SIZE_MAX ? c->file_fd[i] : -1;
}

int files_fd_base(const struct image *im)
{
	uint32_t base = 3;

	for (size_t i = 0; i < im->nfd_tables; i++)
		for (size_t k = 0; k < im->fd_table[i]->n_fd; k++)
			base = MAX(base, im->fd_table[i]->fd[k]->fd + 1);
	for (size_t i = 0; i < im->nfiles; i++)
		base = epoll_fd_base(im->file[i], base);
	return MIN(base, (uint32_t)INT_MAX);
}

static const struct file_ops *ops_of(const Cpx__File *f)
{
	size_t i = 0;

	while (file_registry[i] != &unsupported_file_ops && !file_registry[i]->body(f))
		i++;
	return file_registry[i];
}

static const Cpx__Task *first_holder(const struct restore_ctx *c, const Cpx__File *f,
				     uint32_t *ret_fd)
{
	for (size_t i = 0; i < c->image->ntasks; i++) {
		const Cpx__FdTable *t = image_fd_table(c->image, c->image->task[i]->fd_table);

		for (size_t k = 0; t && k < t->n_fd; k++)
			if (t->fd[k]->file == f->id) {
				*ret_fd = t->fd[k]->fd;
				return c->image->task[i];
			}
	}
	return NULL;
}

bool files_number(const struct restore_ctx *c, const Cpx__File *f, uint32_t *ret_fd)
{
	return first_holder(c, f, ret_fd) != NULL;
}

int files_refuse_restore(struct restore_ctx *c, const Cpx__File *f, const char *kind,
			 const char *fmt, ...)
{
	char object[128], comm[32] = "", reason[1024];
	uint32_t fd = 0;
	const Cpx__Task *task = first_holder(c, f, &fd);
	va_list ap;

	if (task) {
		snprintf(object, sizeof(object), "fd %u (%s)", fd, kind);
		snprintf(comm, sizeof(comm), "%.*s", (int)task->comm.len,
			 (const char *)task->comm.data);
	} else {
		snprintf(object, sizeof(object), "mapped %s", kind);
	}
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return refuse(c->refusals, task ? (pid_t)task->pid : 0, comm, object, "%s", reason);
}

/* ---- check ---- */

static int check_count(struct restore_ctx *c)
{
	uint64_t want =
		(uint64_t)files_fd_base(c->image) + c->image->nfiles + c->image->nobjects + 64;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_max >= want)
		return 0;
	return refuse(c->refusals, 0, NULL, "descriptors",
		      "cannot be restored: %llu are needed at once, the hard "
		      "limit is %llu (raise it: ulimit -Hn, or LimitNOFILE of the service)",
		      (unsigned long long)want, (unsigned long long)l.rlim_max);
}

static int check_access_mode(const Cpx__File *f, struct err *err)
{
	if ((f->flags & O_ACCMODE) == O_ACCMODE && !(f->flags & O_PATH))
		return err_set(err, -EBADMSG, "file %u: the image holds an impossible access mode",
			       f->id);
	return 0;
}

int files_check(struct restore_ctx *c, struct err *err)
{
	int r = check_count(c);

	if (r == 0)
		r = external_rules_check(c, err);
	for (size_t i = 0; r >= 0 && i < c->image->nfiles; i++) {
		const Cpx__File *f = c->image->file[i];

		r = check_access_mode(f, err);
		if (r == 0)
			r = ops_of(f)->check(c, f, err);
	}
	return r < 0 ? r : 0;
}

/* ---- opening everything ---- */

static void loosen_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

/* The first task of the tree that has a description is the one that settles it. */
static void note_holders(struct restore_ctx *c)
{
	for (size_t i = c->image->ntasks; i-- > 0;) {
		const Cpx__FdTable *t = image_fd_table(c->image, c->image->task[i]->fd_table);

		for (size_t k = 0; t && k < t->n_fd; k++) {
			size_t index = index_of_id(c->image, t->fd[k]->file);

			if (index != SIZE_MAX)
				c->file_holder[index] = c->image->task[i]->pid;
		}
	}
}

static int open_one(struct restore_ctx *c, size_t i, struct err *err)
{
	const Cpx__File *f = c->image->file[i];
	const struct file_ops *ops = ops_of(f);
	uint32_t fd = 0;
	const Cpx__Task *task;
	int r = 0;

	if (c->file_fd[i] < 0)
		r = ops->open(c, f, &c->file_fd[i], err);
	if (r == 0)
		r = locks_take(f, c->file_fd[i], err);
	if (r == 0)
		return 0;
	task = first_holder(c, f, &fd);
	return task ? err_context(err, "task %u: fd %u (%s)", task->pid, fd, ops->name)
		    : err_context(err, "mapped file");
}

int files_open_all(struct restore_ctx *c, struct err *err)
{
	size_t n = c->image->nfiles;
	int r = 0;

	loosen_limit();
	c->file_fd = malloc((n + 1) * sizeof(*c->file_fd));
	c->file_holder = calloc(n + 1, sizeof(*c->file_holder));
	if (!c->file_fd || !c->file_holder) {
		free(TAKE_PTR(c->file_fd));
		return err_nomem(err);
	}
	memset(c->file_fd, 0xff, (n + 1) * sizeof(*c->file_fd));
	note_holders(c);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = open_one(c, i, err);
	return r;
}

int files_fill(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->image->nfiles; i++) {
		const struct file_ops *ops = ops_of(c->image->file[i]);

		if (ops->fill)
			r = ops->fill(c, c->image->file[i], err);
	}
	return r;
}

void files_close_all(struct restore_ctx *c)
{
	unix_world_release(c);
	ghostdirs_release(c);
	for (size_t i = 0; c->file_fd && i < c->image->nfiles; i++)
		if (c->file_fd[i] >= 0)
			close(c->file_fd[i]);
	free(TAKE_PTR(c->file_fd));
	free(TAKE_PTR(c->file_holder));
}

/* ---- giving a task its table ---- */

static void close_gap(struct batch *b, uint32_t first, uint32_t last)
{
	if (first <= last)
		BATCH_CALL(b, SYS_close_range, first, last, 0);
}

static void close_all_but(struct batch *b, uint32_t first, uint32_t last, int keep_fd)
{
	if (keep_fd < 0 || (uint32_t)keep_fd < first || (uint32_t)keep_fd > last) {
		close_gap(b, first, last);
		return;
	}
	if ((uint32_t)keep_fd > first)
		close_gap(b, first, keep_fd - 1);
	if ((uint32_t)keep_fd < last)
		close_gap(b, keep_fd + 1, last);
}

static int install_one(struct restore_ctx *c, const Cpx__FdTable *t, size_t i, struct batch *b,
		       int keep_fd, struct err *err)
{
	const Cpx__Fd *fd = t->fd[i];
	uint32_t below = i ? t->fd[i - 1]->fd + 1 : 0;
	int from = files_fd(c, fd->file);

	if (from < 0 || fd->fd >= (uint32_t)c->fd_base || fd->fd < below)
		return err_set(err, -EBADMSG, "fd %u: the descriptor table is not in order",
			       fd->fd);
	if (fd->fd > below)
		close_all_but(b, below, fd->fd - 1, keep_fd);
	BATCH_CALL(b, SYS_dup3, from, fd->fd, fd->cloexec ? O_CLOEXEC : 0);
	return 0;
}

static int install_all(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b,
		       int keep_fd, size_t *at, struct err *err)
{
	int r = 0;

	for (; r == 0 && *at < table->n_fd; (*at)++) {
		if (batch_is_tight(b, 3, 0))
			return 1;
		r = install_one(c, table, *at, b, keep_fd, err);
	}
	return r;
}

/* What a task does while it still has all files of the tree. done counts those that have been
 * looked at for pidfds, and then epoll registrations. */
static int install_first(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b,
			 size_t *done, struct err *err)
{
	size_t registered = *done - MIN(*done, c->image->nfiles);
	int r = pidfd_install(c, table, b, done, err);

	if (r == 0) {
		r = epoll_install(c, table, b, &registered, err);
		*done = c->image->nfiles + registered;
	}
	return r;
}

/* The cursor is the index in the table and, in its upper half, how much is done before. */
int files_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, int keep_fd,
		  size_t *cursor, struct err *err)
{
	size_t at = *cursor & UINT32_MAX, done = *cursor >> 32;
	int r = install_first(c, table, b, &done, err);

	if (r == 0)
		r = install_all(c, table, b, keep_fd, &at, err);
	*cursor = at | done << 32;
	if (r)
		return r;
	if (batch_is_tight(b, 2, 0))
		return 1;
	/* Last of all, because what the tasks inherit lies up there. */
	close_all_but(b, table->n_fd ? table->fd[table->n_fd - 1]->fd + 1 : 0, UINT32_MAX, keep_fd);
	return 0;
}

/* ---- settling ---- */

static bool is_first_in_table(const Cpx__FdTable *t, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (t->fd[k]->file == t->fd[i]->file)
			return false;
	return true;
}

static bool has_anything(const Cpx__File *f)
{
	return f->n_lock || f->owner || (f->flags & O_ASYNC) || ops_of(f)->settle;
}

static int settle_file(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
		       struct batch *b, size_t *from, struct err *err)
{
	const struct file_ops *ops = ops_of(f);
	int r;

	if (*from == 0) {
		if (batch_is_tight(b, 12, 1024))
			return 1;
		if (c->file_holder[files_index(c, f)] == task->pid)
			owner_settle(f, fd, b);
		r = ops->settle ? ops->settle(c, f, task, fd, b, err) : 0;
		if (r < 0)
			return r;
	}
	return locks_settle(f, task, fd, b, from, err);
}

/* The cursor is the index in the table and, in its upper half, the lock to go on from, plus one. */
int files_settle(struct restore_ctx *c, const Cpx__Task *task, const Cpx__FdTable *table,
		 struct batch *b, size_t *cursor, struct err *err)
{
	size_t i = *cursor & UINT32_MAX, from = *cursor >> 32;

	for (; i < table->n_fd; i++, from = 0) {
		const Cpx__File *f = image_file(c->image, table->fd[i]->file);
		int r;

		if (!f || !has_anything(f) || !is_first_in_table(table, i))
			continue;
		r = settle_file(c, f, task, table->fd[i]->fd, b, &from, err);
		*cursor = i | from << 32;
		if (r)
			return r;
	}
	*cursor = i;
	return 0;
}

static int check_call(const struct call *call, struct err *err)
{
	int fd = call->arg[0];

	if (call->ret >= 0)
		return 0;
	if (call->nr == SYS_timerfd_settime ||
	    (call->nr == SYS_ioctl && call->arg[1] == TFD_IOC_SET_TICKS))
		return err_sys(err, call->ret, "fd %d: cannot be given its timer", fd);
	if (call->nr == SYS_ioctl) /* of a terminal: another one may not know or allow it */
		return 0;
	if (call->nr == SYS_mq_notify)
		return err_sys(err, call->ret, "fd %d: cannot be told of messages again", fd);
	if (call->nr == SYS_openat || (call->nr == SYS_fcntl && call->arg[1] == F_SETLEASE))
		return lease_check_call(call, err);
	if (call->nr == SYS_fcntl && call->arg[1] == F_SETLK &&
	    (call->ret == -EAGAIN || call->ret == -EACCES))
		return err_set(err, -EBUSY, "fd %d: another process holds a lock that it had", fd);
	return err_sys(err, call->ret, "fd %d: cannot be given its %s", fd,
		       call->nr == SYS_fcntl && call->arg[1] == F_SETLK ? "locks" : "owner");
}

int files_settled(struct restore_ctx *c, const Cpx__Task *task, const struct batch *b,
		  struct err *err)
{
	for (unsigned i = 0; i < b->n; i++)
		if (check_call(&b->call[i], err) < 0)
			return err_context(err, "task %u", task->pid);
	return 0;
}
