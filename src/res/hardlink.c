/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that were deleted under the name by which they were opened, and live on under another that
 * is not in the same directory. The other name may be that of another descriptor or mapping of the
 * tree. Else the file is kept by its handle (name_to_handle_at(2)), which says the inode and its
 * generation: opening by it needs CAP_DAC_READ_SEARCH, at the dump (to know that it can be done) and
 * at the restore.
 */
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>

/* ---- dump ---- */

static bool can_open(int fd, const struct file_handle *h, const struct stat *st)
{
	_cleanup_close_ int again =
		open_by_handle_at(fd, (struct file_handle *)h, O_PATH | O_CLOEXEC);
	struct stat now;

	return again >= 0 && fstat(again, &now) == 0 && now.st_dev == st->st_dev &&
	       now.st_ino == st->st_ino;
}

int hardlink_dump(int fd, const struct stat *st, Cpx__RegularFile *b, struct err *err)
{
	_cleanup_free_ struct file_handle *h = malloc(sizeof(*h) + MAX_HANDLE_SZ);
	int mount;

	if (!h)
		return err_nomem(err);
	h->handle_bytes = MAX_HANDLE_SZ;
	if (is_denied("file_handle") || fd < 0 ||
	    name_to_handle_at(fd, "", h, &mount, AT_EMPTY_PATH) < 0 || !can_open(fd, h, st))
		return 0;
	b->handle_type = h->handle_type;
	return msg_set_bytes(&b->handle, h->f_handle, h->handle_bytes) < 0 ? err_nomem(err) : 0;
}

/* Under its own name elsewhere in the tree. */
static const Cpx__Path *find_named(const struct dump_ctx *c, const struct file_entry *e)
{
	for (size_t i = 0; i < files_count(c); i++) {
		const struct file_entry *o = c->files->entry[i];
		const Cpx__RegularFile *b = o->file->regular;

		if (o != e && o->dev == e->dev && o->ino == e->ino && b && b->path && !o->is_lost &&
		    !b->ghost && !b->link_path.len)
			return b->path;
	}
	return NULL;
}

int hardlink_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);
	Cpx__RegularFile *b = f->regular;
	const Cpx__Path *named = e->is_lost ? find_named(c, e) : NULL;
	int r = 0;

	if (named)
		r = msg_set_bytes(&b->link_path, named->path.data, named->path.len);
	else if (e->is_lost && !b->handle.len)
		r = files_refuse_entry(
			c, f, "regular file",
			"cannot be checkpointed: '%.*s' was deleted, and its other name (hard "
			"link) is not in the same directory; only a cpx with "
			"cap_dac_read_search (root) can reach it, where the file system has "
			"handles",
			(int)b->path->path.len, (const char *)b->path->path.data);
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- restore ---- */

/* The nearest directory that is still there: any file of the file system will do. */
static int open_above(const char *path)
{
	char dir[PATH_MAX];
	int fd = -1;

	snprintf(dir, sizeof(dir), "%s", path);
	for (char *slash; fd < 0 && (slash = strrchr(dir, '/'));) {
		slash[slash == dir] = '\0';
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		*slash = '\0';
	}
	return fd;
}

/* Negative: errno. */
static int open_handle(const Cpx__RegularFile *b, const char *path, int flags)
{
	_cleanup_free_ struct file_handle *h = malloc(sizeof(*h) + MAX_HANDLE_SZ);
	_cleanup_close_ int above = open_above(path);
	int fd;

	if (!h)
		return -ENOMEM;
	if (above < 0 || b->handle.len > MAX_HANDLE_SZ)
		return -EINVAL;
	h->handle_bytes = b->handle.len;
	h->handle_type = b->handle_type;
	memcpy(h->f_handle, b->handle.data, b->handle.len);
	fd = open_by_handle_at(above, h, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int hardlink_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int r = path_text(&f->regular->path->path, path, sizeof(path), err);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = c->in_user_ns ? -EPERM : open_handle(f->regular, path, O_PATH);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_ino == f->regular->path->ino)
		return 0;
	return refuse(c->refusals, 0, NULL, path,
		      "cannot be restored: this file was deleted and had another name (hard link) "
		      "elsewhere, %s",
		      fd == -EPERM ? "by which only root can reach it"
				   : "which is gone now, too");
}

int hardlink_open(struct restore_ctx *c, const Cpx__RegularFile *b, const char *path,
		  struct err *err)
{
	int fd = open_handle(b, path, O_PATH);

	return fd < 0 ? err_sys(err, fd, "cannot open '%s' by its handle", path) : fd;
}
