/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fanotify(7): the group and its marks of inodes, mounts and file systems. Reads fdinfo; paths are
 * found as those of inotify are. Marks are made when the whole tree stands, so that nothing of the
 * restore is reported.
 *
 * Refused: groups that answer permission events, events that have not been read, files whose path
 * cannot be found, a group that a process outside of the tree has too. Not kept: what happens to
 * the files until the tree runs again.
 */
#include "res/attr.h"
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE 0x200
#endif
#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE 0x400
#endif

#define CLASSES	    (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT)
#define MARK_FLAGS  (FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE | FAN_MARK_IGNORE)
#define ADMIN_FLAGS (CLASSES | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS | FAN_ENABLE_AUDIT)

static ProtobufCMessage *fanotify_body(const Cpx__File *f)
{
	return f->fanotify ? &f->fanotify->base : NULL;
}

static bool fanotify_match(const struct fd_probe *p)
{
	return anon_is(p, "[fanotify]");
}

/* ---- dump ---- */

/* A line of fdinfo. */
struct seen_mark {
	Cpx__FanotifyMark__Type type;
	unsigned flags, mnt_id;
	unsigned long mask, ignored;
	struct proc_inotify_watch where; /* inode and device */
};

static void set_device(struct proc_inotify_watch *w, unsigned sdev)
{
	w->dev_major = sdev >> 20; /* MINORBITS */
	w->dev_minor = sdev & ((1U << 20) - 1);
}

static bool read_handle(const char *line, struct proc_inotify_watch *w)
{
	const char *s = strstr(line, " fhandle-bytes:"), *hex = strstr(line, " f_handle:");
	unsigned len, type;

	if (!s || !hex || sscanf(s, " fhandle-bytes:%x fhandle-type:%x", &len, &type) != 2 ||
	    len > sizeof(w->handle))
		return false;
	hex += strlen(" f_handle:");
	for (unsigned i = 0; i < len; i++, hex += 2)
		if (sscanf(hex, "%2hhx", &w->handle[i]) != 1)
			return false;
	w->handle_len = len;
	w->handle_type = (int)type;
	return true;
}

static bool read_mark(const char *line, struct seen_mark *m)
{
	unsigned long ino = 0;
	unsigned sdev = 0;

	*m = (struct seen_mark){0};
	if (sscanf(line, "fanotify ino:%lx sdev:%x mflags:%x mask:%lx ignored_mask:%lx", &ino, &sdev,
		   &m->flags, &m->mask, &m->ignored) == 5) {
		m->where.ino = ino;
		set_device(&m->where, sdev);
		return read_handle(line, &m->where);
	}
	m->type = CPX__FANOTIFY_MARK__TYPE__MOUNT;
	if (sscanf(line, "fanotify mnt_id:%x mflags:%x mask:%lx ignored_mask:%lx", &m->mnt_id,
		   &m->flags, &m->mask, &m->ignored) == 4)
		return true;
	m->type = CPX__FANOTIFY_MARK__TYPE__FILESYSTEM;
	if (sscanf(line, "fanotify sdev:%x mflags:%x mask:%lx ignored_mask:%lx", &sdev, &m->flags,
		   &m->mask, &m->ignored) != 4)
		return false;
	set_device(&m->where, sdev);
	return true;
}

/* Of a mount its top, of a file system that of any mount of it. */
static bool find_mount(struct dump_ctx *c, const struct seen_mark *m, char *path, size_t size,
		       struct stat *st)
{
	_cleanup_close_ int dir = -1;
	struct proc_mounts mounts = {0};
	bool is_found = false;

	if (proc_open(c->proc_fd, getpid(), 0, &dir, NULL) < 0 ||
	    proc_mounts(dir, &mounts, NULL) < 0)
		return false;
	for (size_t i = 0; i < mounts.n && !is_found; i++) {
		const struct proc_mount *t = &mounts.mount[i];

		if (m->type == CPX__FANOTIFY_MARK__TYPE__MOUNT
			    ? t->id != (int)m->mnt_id
			    : t->dev_major != m->where.dev_major ||
				      t->dev_minor != m->where.dev_minor)
			continue;
		snprintf(path, size, "%s", t->mountpoint);
		is_found = stat(path, st) == 0 && st->st_dev == makedev(t->dev_major, t->dev_minor);
	}
	proc_mounts_release(&mounts);
	return is_found;
}

static bool find_path(struct dump_ctx *c, const struct seen_mark *m, char *path, size_t size,
		      struct stat *st)
{
	return m->type == CPX__FANOTIFY_MARK__TYPE__INODE
		       ? watched_path(c, &m->where, path, size, st)
		       : find_mount(c, m, path, size, st);
}

static int add_mark(struct dump_ctx *c, const struct fd_probe *p, const struct seen_mark *m,
		    Cpx__Fanotify *b, struct err *err)
{
	Cpx__FanotifyMark *mark;
	char path[PATH_MAX];
	struct stat st;

	if (!find_path(c, m, path, sizeof(path), &st))
		return files_refuse(c, p, "fanotify",
				    "cannot be checkpointed: the path of a mark (inode %llu of "
				    "device %u:%u) cannot be found",
				    (unsigned long long)m->where.ino, m->where.dev_major,
				    m->where.dev_minor);
	mark = MSG_NEW(Cpx__FanotifyMark, cpx__fanotify_mark__init);
	if (!mark || msg_append(&b->mark, &b->n_mark, mark) < 0) {
		free(mark);
		return err_nomem(err);
	}
	mark->type = m->type;
	mark->flags = m->flags;
	mark->mask = m->mask;
	mark->ignored = m->ignored;
	return path_record(path, &st, &mark->path, err);
}

static int dump_marks(struct dump_ctx *c, const struct fd_probe *p, const char *info,
		      Cpx__Fanotify *b, struct err *err)
{
	const char *line = strstr(info, "fanotify flags:");
	int r = 0;

	if (!line ||
	    sscanf(line, "fanotify flags:%x event-flags:%x", &b->flags, &b->event_flags) != 2)
		return err_set(err, -EBADMSG, "fdinfo shows no flags");
	if (b->flags & CLASSES)
		return files_refuse(c, p, "fanotify",
				    "cannot be checkpointed: it answers permission events, and "
				    "those that wait for an answer cannot be seen");
	while (r == 0 && (line = strstr(line + 1, "\nfanotify "))) {
		struct seen_mark m;

		if (!read_mark(line + 1, &m) || m.flags & ~MARK_FLAGS)
			return files_refuse(c, p, "fanotify",
					    "cannot be checkpointed: it has a mark of an unknown "
					    "kind");
		r = add_mark(c, p, &m, b, err);
	}
	return r;
}

static int fanotify_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			 struct err *err)
{
	struct proc_fdinfo info = {0};
	int queued = 0, r;

	f->fanotify = MSG_NEW(Cpx__Fanotify, cpx__fanotify__init);
	if (!f->fanotify)
		return err_nomem(err);
	files_watch_same(c);
	if (ioctl(p->dup, FIONREAD, &queued) < 0)
		return err_sys(err, -errno, "cannot tell whether it holds events");
	if (queued && ++c->npassing)
		return files_refuse(c, p, "fanotify",
				    "cannot be checkpointed: it holds events that were not read "
				    "(%d bytes); try again when the task has read them",
				    queued);
	r = anon_info(c, p, &info, err);
	if (r == 0)
		r = dump_marks(c, p, info.text, f->fanotify, err);
	proc_fdinfo_release(&info);
	return r;
}

/* ---- restore ---- */

static int make_group(const Cpx__Fanotify *b)
{
	return fanotify_init((b->flags & ~CLASSES) | FAN_CLOEXEC, b->event_flags);
}

/* Who makes a group without the capability is told less (include/linux/fanotify.h, FANOTIFY_UNPRIV),
 * which nothing shows. */
static bool may_be_humble(const Cpx__Fanotify *b)
{
	return b->flags & FAN_REPORT_FID && !(b->flags & ADMIN_FLAGS);
}

static bool holder_is_humble(struct restore_ctx *c, const Cpx__File *f)
{
	for (size_t i = 0; i < c->image->ntasks; i++) {
		const Cpx__Task *t = c->image->task[i];
		const Cpx__FdTable *table = image_fd_table(c->image, t->fd_table);

		for (size_t k = 0; table && k < table->n_fd; k++)
			if (table->fd[k]->file == f->id && t->n_thread && t->thread[0]->creds)
				return !(t->thread[0]->creds->cap_effective &
					 cap_bit(CAP_SYS_ADMIN));
	}
	return false;
}

static const char *why_unmakable(struct restore_ctx *c, const Cpx__File *f)
{
	const Cpx__Fanotify *b = f->fanotify;
	_cleanup_close_ int fd = make_group(b);

	if (fd < 0)
		return errno == EPERM ? "it needs cap_sys_admin; restore as root"
				      : "this kernel cannot make it";
	if (may_be_humble(b) && holder_is_humble(c, f) && attr_can_globally(c, CAP_SYS_ADMIN))
		return "made by root it would be told more than it was; restore it as its user";
	for (size_t i = 0; i < b->n_mark; i++)
		if (b->mark[i]->type == CPX__FANOTIFY_MARK__TYPE__MOUNT && c->new_pid_ns)
			return "it has marked a mount, of which the new namespaces have a copy";
	return NULL;
}

static int fanotify_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const char *why = why_unmakable(c, f);
	int r = why ? files_refuse_restore(c, f, "fanotify", "cannot be restored: %s", why) : 0;

	for (size_t i = 0; i < f->fanotify->n_mark && r == 0; i++) {
		const Cpx__Path *path = f->fanotify->mark[i]->path;

		r = path_check(c, path, path->mode & S_IFMT, O_PATH, "marked file", err);
	}
	return r;
}

static int fanotify_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	return anon_finish(c, f, make_group(f->fanotify), ret_fd, err);
}

static unsigned type_flag(const Cpx__FanotifyMark *m)
{
	switch (m->type) {
	case CPX__FANOTIFY_MARK__TYPE__MOUNT:
		return FAN_MARK_MOUNT;
	case CPX__FANOTIFY_MARK__TYPE__FILESYSTEM:
		return FAN_MARK_FILESYSTEM;
	default:
		return FAN_MARK_DONT_FOLLOW;
	}
}

static int make_mark(int fd, const Cpx__FanotifyMark *m, struct err *err)
{
	unsigned flags = FAN_MARK_ADD | type_flag(m) | (m->flags & FAN_MARK_EVICTABLE);
	unsigned ignore = m->flags & FAN_MARK_IGNORE ? FAN_MARK_IGNORE : FAN_MARK_IGNORED_MASK;
	char path[PATH_MAX];
	int r = path_text(&m->path->path, path, sizeof(path), err);

	if (r == 0 && m->mask && fanotify_mark(fd, flags, m->mask, AT_FDCWD, path) < 0)
		r = err_sys(err, -errno, "cannot mark '%s'", path);
	flags |= ignore | (m->flags & FAN_MARK_IGNORED_SURV_MODIFY);
	if (r == 0 && m->ignored && fanotify_mark(fd, flags, m->ignored, AT_FDCWD, path) < 0)
		r = err_sys(err, -errno, "cannot mark '%s'", path);
	return r;
}

static int fanotify_settle(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
			   struct batch *b, struct err *err)
{
	size_t index = files_index(c, f);
	int r = 0;

	if (c->file_holder[index] != task->pid)
		return 0;
	for (size_t i = 0; i < f->fanotify->n_mark && r == 0; i++)
		r = make_mark(c->file_fd[index], f->fanotify->mark[i], err);
	return r < 0 ? err_context(err, "fd %d (fanotify)", fd) : 0;
}

const struct file_ops fanotify_file_ops = {
	.name = "fanotify",
	.body = fanotify_body,
	.match = fanotify_match,
	.dump = fanotify_dump,
	.check = fanotify_check,
	.open = fanotify_open,
	.settle = fanotify_settle,
};
