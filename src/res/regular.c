/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Regular files: descriptors (name, flags, position) and mapped files.
 *
 * A file that has lost its last name (a ghost) goes into the image whole, as an Object, up to the
 * limit of the dump, and is made again in its old directory, or in /tmp where that is gone. All its
 * descriptions and mappings share the one new inode. A file that lives under another name in the
 * same directory gets its old name back for the moment of opening it, so that /proc calls it as
 * before; one that lives elsewhere: hardlink.c. A file made with O_TMPFILE is made so again.
 *
 * Cannot keep: change and birth times, extended attributes of a ghost. Refused: memory
 * objects of drivers that look like files, files whose name leads elsewhere now.
 */
#include "res/objects.h"
#include "res/outputs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/vfs.h>

static ProtobufCMessage *regular_body(const Cpx__File *f)
{
	return f->regular ? &f->regular->base : NULL;
}

static bool regular_match(const struct fd_probe *p)
{
	return S_ISREG(p->st.st_mode) && p->link[0] == '/' && !unsupported_is_secret(p);
}

/* ---- dump ---- */

/* A file of the kernel's own memory file system (shared anonymous memory, SysV segments) has a name
 * that looks like a path. */
static bool is_kernel_memory(dev_t dev)
{
	_cleanup_close_ int fd = memfd_create("cpx", MFD_CLOEXEC);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev;
}

static int body_new(Cpx__File *f, const char *path, const struct stat *st, struct err *err)
{
	f->regular = msg_new(sizeof(*f->regular), (void (*)(void *))cpx__regular_file__init);
	if (!f->regular)
		return err_nomem(err);
	f->regular->uid = st->st_uid;
	f->regular->gid = st->st_gid;
	return path_record(path, st, &f->regular->path, err);
}

static uint64_t content_size(const struct stat *st)
{
	return MIN((uint64_t)st->st_size, (uint64_t)st->st_blocks * 512);
}

static int refuse_ghost(struct dump_ctx *c, const struct fd_probe *p, const char *path)
{
	return files_refuse(c, p, "deleted file",
			    "cannot be checkpointed: '%s' was deleted and holds %llu bytes, "
			    "more than the limit of %llu (--ghost-limit raises it)",
			    path, (unsigned long long)content_size(&p->st),
			    (unsigned long long)c->ghost_limit);
}

static int dump_ghost(struct dump_ctx *c, const struct fd_probe *p, const char *path, Cpx__File *f,
		      struct err *err)
{
	Cpx__Object *object;
	int r;

	if ((p->flags & O_ACCMODE) == O_WRONLY && lease_is_on(&p->st))
		return files_refuse(c, p, "file lease",
				    "cannot be checkpointed: '%s' was deleted, is leased "
				    "(F_SETLEASE) and cannot be read",
				    path) < 0
			       ? err_nomem(err)
			       : 0;
	if (content_size(&p->st) > c->ghost_limit)
		return refuse_ghost(c, p, path) < 0 ? err_nomem(err) : 0;
	r = objects_add(c, p->t, CPX__OBJECT__TYPE__GHOST_FILE, p->st.st_dev, p->st.st_ino,
			p->st.st_size, p->dup, 0, 0, 0, &object, err);
	if (r == 0)
		f->regular->ghost = object->id;
	return r;
}

static int dump_named(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	char path[sizeof(p->link)], link[PATH_MAX];
	enum path_state state;
	int r;

	snprintf(path, sizeof(path), "%s", p->link);
	state = path_examine(path, &p->st, link, sizeof(link));
	r = body_new(f, path, &p->st, err);
	if (r < 0)
		return r;
	switch (state) {
	case PATH_SAME:
		return 0;
	case PATH_DELETED:
		return dump_ghost(c, p, path, f, err);
	case PATH_UNLINKED:
		return msg_set_bytes(&f->regular->link_path, link, strlen(link)) < 0
			       ? err_nomem(err)
			       : 0;
	case PATH_LOST:
		files_entry(c, f)->is_lost = true;
		return hardlink_dump(p->dup, &p->st, f->regular, err);
	case PATH_DIFFERENT:
		break;
	}
	return files_refuse(c, p, "regular file",
			    "cannot be checkpointed: '%s' is not the file that is open "
			    "(replaced, mounted over, or in another mount namespace)",
			    path);
}

static int regular_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	if (p->st.st_nlink == 0 && is_kernel_memory(p->st.st_dev))
		return files_refuse(c, p, "kernel memory object",
				    "cannot be checkpointed: '%s' has no name", p->link);
	return dump_named(c, p, f, err);
}

/* ---- dump: mapped files ---- */

int refuse_mapping(struct dump_ctx *c, const struct mapped_file *m, const char *fmt, ...)
{
	char object[512], reason[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	snprintf(object, sizeof(object), "mapping of %s%s", m->path,
		 m->is_deleted ? " (deleted)" : "");
	return refuse(c->refusals, m->t->pid, m->t->comm, object, "%s", reason);
}

/* Where the mapping that the link names is, for reading it through the task. */
static int find_view(struct dump_ctx *c, const struct mapped_file *m, struct object_view *ret,
		     struct err *err)
{
	const char *range = strrchr(m->proc_link, '/');
	unsigned long long start, end;
	_cleanup_close_ int dir = -1;
	struct proc_vmas vmas = {0};
	const struct proc_vma *v;
	int r;

	if (!range || sscanf(range + 1, "%llx-%llx", &start, &end) != 2)
		return 0;
	r = proc_open(c->proc_fd, m->t->pid, 0, &dir, err);
	if (r == 0)
		r = proc_maps(dir, &vmas, err);
	v = r == 0 ? proc_vmas_find(&vmas, start) : NULL;
	if (v)
		*ret = (struct object_view){.pid = m->t->pid,
					    .addr = start,
					    .len = end - start,
					    .offset = v->offset + (start - v->start),
					    .is_private = m->is_private};
	proc_vmas_release(&vmas);
	return r;
}

int mapped_open(struct dump_ctx *c, const struct mapped_file *m, int *ret_fd,
		struct object_view *ret_view, struct err *err)
{
	int fd = -1;

	if (is_denied("map_files") || lease_is_on(&m->st))
		errno = EPERM;
	else
		fd = openat(c->proc_fd, m->proc_link, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	*ret_view = (struct object_view){0};
	*ret_fd = fd;
	if (fd >= 0)
		return 0;
	if (errno != EPERM && errno != EACCES)
		return err_sys(err, -errno, "cannot open '%s'", m->path);
	return find_view(c, m, ret_view, err);
}

/* Content of a deleted file that is mapped: through the link where we may open it, else what the
 * mapping shows, which for a private one need not be what the file holds. */
static int dump_mapped_ghost(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
			     struct err *err)
{
	struct object_view view;
	_cleanup_close_ int fd = -1;
	struct stat st = m->st;
	Cpx__Object *object;
	int r = mapped_open(c, m, &fd, &view, err);

	if (r < 0)
		return r;
	if (fd >= 0 && fstat(fd, &st) < 0)
		return err_sys(err, -errno, "cannot examine it");
	if (fd < 0 && view.len == 0)
		return refuse_mapping(
			c, m,
			"cannot be checkpointed: the file was deleted, and only a cpx with "
			"cap_checkpoint_restore may read it");
	if (fd >= 0 ? content_size(&st) > c->ghost_limit : view.len > c->ghost_limit)
		return refuse_mapping(
			c, m,
			"cannot be checkpointed: the file was deleted and is larger than the "
			"limit of %llu bytes (--ghost-limit raises it)",
			(unsigned long long)c->ghost_limit);
	r = objects_add_view(c, m->t, CPX__OBJECT__TYPE__GHOST_FILE, st.st_dev, st.st_ino,
			     fd >= 0 ? (uint64_t)st.st_size : view.offset + view.len, fd, &view,
			     &object, err);
	if (r == 0)
		f->regular->ghost = object->id;
	return r;
}

int regular_add_view(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f, struct err *err)
{
	return dump_mapped_ghost(c, m, f, err);
}

static int dump_mapped_lost(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
			    struct err *err)
{
	struct object_view view;
	_cleanup_close_ int fd = -1;
	int r = mapped_open(c, m, &fd, &view, err);

	files_entry(c, f)->is_lost = true;
	return r < 0 ? r : hardlink_dump(fd, &m->st, f->regular, err);
}

int regular_dump_mapped(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
			struct err *err)
{
	char path[PATH_MAX + 16], link[PATH_MAX];
	struct stat st = m->st;
	enum path_state state;
	int r;

	if (st.st_mode && !S_ISREG(st.st_mode))
		return refuse_mapping(c, m, "cannot be checkpointed: a mapped %s",
				      S_ISCHR(st.st_mode)
					      ? "device may hold state that cpx cannot see"
					      : "object of this kind is unknown");
	snprintf(path, sizeof(path), "%s%s", m->path, m->is_deleted ? " (deleted)" : "");
	if (!st.st_mode) /* whether it has other names is unknown: look for one */
		st.st_nlink = 1;
	state = path_examine(path, &st, link, sizeof(link));
	if (state == PATH_SAME && !st.st_mode && stat(path, &st) < 0)
		return err_sys(err, -errno, "cannot examine it");
	r = body_new(f, path, &st, err);
	if (r < 0)
		return r;
	if (state == PATH_UNLINKED)
		return msg_set_bytes(&f->regular->link_path, link, strlen(link)) < 0
			       ? err_nomem(err)
			       : 0;
	if (state == PATH_DELETED || (state == PATH_LOST && !m->st.st_mode))
		return dump_mapped_ghost(c, m, f, err);
	if (state == PATH_LOST)
		return dump_mapped_lost(c, m, f, err);
	if (state != PATH_SAME)
		return refuse_mapping(
			c, m,
			"cannot be checkpointed: the path does not lead to the file that is mapped "
			"(replaced, or in another mount namespace)");
	return 0;
}

/* ---- restore ---- */

static int check_change(struct restore_ctx *c, const Cpx__RegularFile *b, const char *path,
			bool itself)
{
	const char *why = identity_change(b, path, itself);

	if (!why || identity_is_allowed(c, path))
		return 0;
	return refuse(c->refusals, 0, NULL, path,
		      b->mapped_private
			      ? "cannot be restored: this file is mapped, and it has changed since "
				"the dump: %s; put it back, or accept it: --allow-changed=%s"
			      : "cannot be restored: this file is not the one that was open: %s; "
				"put it back, or accept it: --allow-changed=%s",
		      why, path);
}

static int regular_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__RegularFile *b = f->regular;
	Cpx__Path now = CPX__PATH__INIT;
	char text[PATH_MAX];
	bool itself;
	size_t n;
	int r;

	if (b->ghost)
		return image_object(c->image, b->ghost)
			       ? 0
			       : err_set(err, -EBADMSG, "a deleted file has no content");
	if (!b->path)
		return err_set(err, -EBADMSG, "the image holds a regular file without a path");
	if (b->handle.len)
		return hardlink_check(c, f, err);
	r = identity_locate(b, text, sizeof(text), &itself, err);
	if (r < 0)
		return r;
	now.path = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
	n = c->refusals->n;
	r = path_check(c, &now, S_IFREG, f->flags, "regular file", err);
	return r < 0 || c->refusals->n > n ? r : check_change(c, b, text, itself);
}

/* Gives the file its old name for the moment, if that is free and we may. */
static int open_unlinked(struct restore_ctx *c, const char *path, const char *link, uint32_t flags,
			 struct err *err)
{
	int fd;

	if (linkat(AT_FDCWD, link, AT_FDCWD, path, 0) < 0)
		return file_open_path(c, link, flags, err);
	fd = file_open_path(c, path, flags, err);
	unlink(path);
	return fd;
}

/* By its handle, with its old name for the moment. */
static int open_lost(struct restore_ctx *c, const Cpx__RegularFile *b, const char *path,
		     uint32_t flags, struct err *err)
{
	_cleanup_close_ int fd = hardlink_open(c, b, path, err);
	char link[48];

	if (fd < 0)
		return fd;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0)
		return file_reopen(c, fd, flags, err);
	int r = file_open_path(c, path, flags, err);
	unlink(path);
	return r;
}

static int open_by_name(struct restore_ctx *c, const Cpx__File *f, uint32_t flags, struct err *err)
{
	const Cpx__RegularFile *b = f->regular;
	char path[PATH_MAX], now[PATH_MAX], copy[PATH_MAX];
	bool itself;
	int r = path_text(&b->path->path, path, sizeof(path), err);

	if (r == 0 && b->handle.len)
		return open_lost(c, b, path, flags, err);
	if (r == 0)
		r = identity_locate(b, now, sizeof(now), &itself, err);
	if (r == 0)
		r = outputs_file(c, f, now, copy, err);
	if (r)
		return r < 0 ? r : file_open_path(c, copy, flags, err);
	return b->link_path.len ? open_unlinked(c, path, now, flags, err)
				: file_open_path(c, now, flags, err);
}

bool regular_is_tmpfile(const Cpx__File *f)
{
	return f->regular && f->regular->ghost && (f->flags & O_TMPFILE) == O_TMPFILE &&
	       (f->flags & O_ACCMODE) != O_RDONLY;
}

/* Of a file made with O_TMPFILE there is one description that says so: the object's own. */
static int open_ghost(struct restore_ctx *c, const Cpx__File *f, uint32_t flags, struct err *err)
{
	int fd = objects_fd(c, f->regular->ghost, err);

	if (fd < 0 || !regular_is_tmpfile(f) ||
	    ((fcntl(fd, F_GETFL) ^ f->flags) & (O_TMPFILE | O_ACCMODE)))
		return fd < 0 ? fd : file_reopen(c, fd, flags, err);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, c->fd_base);
	return fd < 0 ? err_sys(err, -errno, "cannot duplicate it") : fd;
}

/* O_APPEND of the object's own description, after its content is in it. */
static int regular_fill(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int fd = files_fd(c, f->id);

	if (regular_is_tmpfile(f) && fcntl(fd, F_SETFL, f->flags & ~O_ASYNC) < 0)
		return err_sys(err, -errno, "cannot set the status flags of a file without a name");
	return 0;
}

static int regular_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	uint32_t flags = f->flags & ~(O_TMPFILE | O_DIRECTORY);
	struct stat st;
	int fd = f->regular->ghost ? open_ghost(c, f, flags, err)
				   : open_by_name(c, f, flags, err);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, -ESTALE, "it is not a regular file any more");
	}
	if (f->pos && lseek(fd, f->pos, SEEK_SET) < 0) {
		close(fd);
		return err_sys(err, -errno, "cannot seek to %llu", (unsigned long long)f->pos);
	}
	*ret_fd = fd;
	return 0;
}

const struct file_ops regular_file_ops = {
	.name = "regular file",
	.body = regular_body,
	.match = regular_match,
	.dump = regular_dump,
	.complete = hardlink_complete,
	.check = regular_check,
	.open = regular_open,
	.fill = regular_fill,
};
