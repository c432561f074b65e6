/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Open directories. The position is the file system's cookie (lseek(2)), which stays good as long
 * as the directory does on the file systems that have stable ones (ext4, xfs, btrfs). Deleted
 * directories: ghostdir.c.
 */
#include "res/ghostdir.h"

#include <fcntl.h>

static ProtobufCMessage *directory_body(const Cpx__File *f)
{
	return f->directory ? &f->directory->base : NULL;
}

static bool directory_match(const struct fd_probe *p)
{
	return S_ISDIR(p->st.st_mode) && p->link[0] == '/';
}

static int directory_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			  struct err *err)
{
	char path[sizeof(p->link)], link[PATH_MAX];

	snprintf(path, sizeof(path), "%s", p->link);
	if (path_examine(path, &p->st, link, sizeof(link)) == PATH_DELETED)
		return ghostdir_dump(path, &p->st, &f->directory, err);
	f->directory = msg_new(sizeof(*f->directory), (void (*)(void *))cpx__directory__init);
	if (!f->directory)
		return err_nomem(err);
	return path_dump(c, p, "directory", &f->directory->path, err);
}

static int check_deleted(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	char above[PATH_MAX];
	const char *why = ghostdir_why_not(f->directory, above, err);

	return why ? files_refuse_restore(c, f, "directory", "cannot be restored: %s: '%.900s'", why,
					  above)
		   : 0;
}

static int directory_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	if (!f->directory->path)
		return err_set(err, -EBADMSG, "the image holds a directory without a path");
	if (f->directory->deleted)
		return check_deleted(c, f, err);
	return path_check(c, f->directory->path, S_IFDIR, f->flags, "directory", err);
}

static int open_deleted(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = ghostdir_fd(c, f->directory, err);

	*ret_fd = fd < 0 ? fd : file_reopen(c, fd, f->flags | O_DIRECTORY, err);
	return MIN(*ret_fd, 0);
}

static int directory_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	char path[PATH_MAX];
	int r = path_text(&f->directory->path->path, path, sizeof(path), err);

	if (r == 0 && f->directory->deleted)
		return open_deleted(c, f, ret_fd, err);
	if (r < 0)
		return r;
	r = file_open_path(c, path, f->flags | O_DIRECTORY, err);
	if (r < 0)
		return r;
	if (lseek(r, f->pos, SEEK_SET) < 0) {
		close(r);
		return err_sys(err, -errno, "cannot seek in directory '%s'", path);
	}
	*ret_fd = r;
	return 0;
}

const struct file_ops directory_file_ops = {
	.name = "directory",
	.body = directory_body,
	.match = directory_match,
	.dump = directory_dump,
	.check = directory_check,
	.open = directory_open,
};
