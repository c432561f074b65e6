/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Descriptors opened with O_PATH (open(2)): a place in the file system, of whatever type.
 * Refused: those of deleted files, and of things that have no path (pipes, sockets ...).
 */
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>

static ProtobufCMessage *pathonly_body(const Cpx__File *f)
{
	return f->path_only ? &f->path_only->base : NULL;
}

static bool pathonly_match(const struct fd_probe *p)
{
	return p->flags & O_PATH;
}

static int pathonly_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			 struct err *err)
{
	f->path_only = msg_new(sizeof(*f->path_only), (void (*)(void *))cpx__path_only__init);
	if (!f->path_only)
		return err_nomem(err);
	if (p->link[0] != '/')
		return files_refuse(c, p, "O_PATH", "cannot be checkpointed: %s has no path",
				    p->link);
	return path_dump(c, p, "O_PATH", &f->path_only->path, err);
}

static int pathonly_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	if (!f->path_only->path)
		return err_set(err, -EBADMSG,
			       "the image holds an O_PATH descriptor without a path");
	return path_check(c, f->path_only->path, f->path_only->path->mode & S_IFMT,
			  f->flags | O_PATH, "file", err);
}

static int pathonly_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	char path[PATH_MAX];
	int r = path_text(&f->path_only->path->path, path, sizeof(path), err);

	if (r < 0)
		return r;
	/* The path is resolved already; if its end is a symbolic link, O_NOFOLLOW is among the
	 * flags. */
	r = file_open_path(c, path, f->flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), err);
	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}

const struct file_ops pathonly_file_ops = {
	.name = "O_PATH",
	.body = pathonly_body,
	.match = pathonly_match,
	.dump = pathonly_dump,
	.check = pathonly_check,
	.open = pathonly_open,
};
