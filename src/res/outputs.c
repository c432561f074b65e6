/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clones and the names that they have in common. A regular file that is open for writing is copied
 * for each clone below the output directory, under its whole path, so that positions stay valid; so
 * is one that is locked. Pipes to outside and terminals become files there. Without an output
 * directory such a file is refused, unless it is only appended to, or the user wants it shared.
 *
 * Cannot be had twice and is refused: named FIFOs, the names of Unix sockets, ports of netlink sockets. Not done: a file that
 * a clone opens by name later is the common one.
 */
#include "res/outputs.h"

#include "res/external.h"
#include "res/unix.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* ---- which files ---------------------------------------------------------------------------- */

static bool is_named_file(const Cpx__File *f)
{
	return f->regular && !f->regular->ghost && f->regular->path && !(f->flags & O_PATH);
}

static bool is_locked(const Cpx__File *f)
{
	for (size_t i = 0; i < f->n_lock; i++)
		if (f->lock[i]->write)
			return true;
	return false;
}

static bool is_written(const Cpx__File *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY || is_locked(f);
}

static bool is_same_file(const Cpx__Path *a, const Cpx__Path *b)
{
	return a->ino == b->ino && a->dev == b->dev;
}

/* The user wants it so. */
static bool is_common(const struct restore_ctx *c, const Cpx__File *f)
{
	char path[PATH_MAX];

	return c->nshared_files && path_text(&f->regular->path->path, path, sizeof(path), NULL) == 0 &&
	       identity_is_listed(c->shared_file, c->nshared_files, path);
}

/* Who only reads it must see what the others write. */
static bool is_output(const struct restore_ctx *c, const Cpx__File *f)
{
	if (is_common(c, f))
		return false;
	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__File *other = c->image->file[i];

		if (is_named_file(other) && is_same_file(other->regular->path, f->regular->path) &&
		    is_written(other))
			return true;
	}
	return false;
}

/* ---- copies --------------------------------------------------------------------------------- */

static int make_parents(char *path, size_t from, struct err *err)
{
	for (char *s = strchr(path + from, '/'); s; s = strchr(s + 1, '/')) {
		int r;

		*s = '\0';
		r = mkdir(path, 0777);
		*s = '/';
		if (r < 0 && errno != EEXIST)
			return err_sys(err, -errno, "cannot make the directory of '%s'", path);
	}
	return 0;
}

static int copy_stretch(int from, int to, off_t at, off_t end, struct err *err)
{
	while (at < end) {
		off_t out = at;
		ssize_t n = copy_file_range(from, &at, to, &out, end - at, 0);

		if (n < 0)
			return err_sys(err, -errno, "cannot copy it");
		if (n == 0)
			return 0;
	}
	return 0;
}

/* Holes stay holes. Where the file system can share the blocks of both it does. */
static int copy_content(int from, int to, off_t size, struct err *err)
{
	int r = ftruncate(to, size) < 0 ? err_sys(err, -errno, "cannot copy it") : 0;
	off_t end = 0;

	if (r < 0 || ioctl(to, FICLONE, from) == 0)
		return r;
	while (r == 0 && end < size) {
		off_t start = lseek(from, end, SEEK_DATA);

		if (start < 0)
			return errno == ENXIO ? 0 : copy_stretch(from, to, end, size, err);
		end = lseek(from, start, SEEK_HOLE);
		r = copy_stretch(from, to, start, end < 0 ? size : end, err);
		end = end < 0 ? size : end;
	}
	return r;
}

static int make_copy(int from, const char *path, struct err *err)
{
	_cleanup_close_ int to = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	int r;

	if (to < 0)
		return errno == EEXIST ? 0 : err_sys(err, -errno, "cannot make '%s'", path);
	if (fstat(from, &st) < 0)
		return err_sys(err, -errno, "cannot examine it");
	r = copy_content(from, to, st.st_size, err);
	if (r == 0 && st.st_uid != geteuid() && fchown(to, st.st_uid, st.st_gid) < 0)
		r = errno == EPERM || errno == EINVAL ? 0 : err_sys(err, -errno, "cannot give it its owner");
	if (r == 0 && fchmod(to, st.st_mode & 07777) < 0)
		r = err_sys(err, -errno, "cannot give it its mode");
	return r;
}

/* Its path as the kernel knows it: that leads nowhere but down from the clone's directory. */
static int find_place(const struct restore_ctx *c, int fd, char ret[PATH_MAX], size_t *ret_top, struct err *err)
{
	char link[48], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/')
		return err_set(err, -ENOENT, "it has no path");
	path[n] = '\0';
	*ret_top = snprintf(ret, PATH_MAX, "%s/%u", c->output_dir, c->clone) + 1;
	if (snprintf(ret, PATH_MAX, "%s/%u%s", c->output_dir, c->clone, path) >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "the path of its copy is too long");
	return 0;
}

int outputs_file(struct restore_ctx *c, const Cpx__File *f, const char *path, char ret[PATH_MAX],
		 struct err *err)
{
	_cleanup_close_ int from = -1;
	size_t top;
	int r;

	if (!c->output_dir || !c->clone || !is_named_file(f) || !is_output(c, f))
		return 0;
	from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (from < 0)
		return err_sys(err, -errno, "cannot open '%s' to copy it", path);
	r = find_place(c, from, ret, &top, err);
	if (r == 0)
		r = make_parents(ret, top, err);
	if (r == 0)
		r = make_copy(from, ret, err);
	return r < 0 ? r : 1;
}

/* ---- pipes and terminals ---------------------------------------------------------------------- */

/* Who of the tree has it as standard output or error: that is the name people look for. */
static const char *standard_name(const struct restore_ctx *c, const Cpx__File *f, uint32_t *ret_pid)
{
	for (uint32_t number = 1; number <= 2; number++)
		for (size_t i = 0; i < c->image->ntasks; i++) {
			const Cpx__Task *t = c->image->task[i];

			*ret_pid = t->pid;
			if (files_at(image_fd_table(c->image, t->fd_table), number) == f->id)
				return number == 1 ? "stdout" : "stderr";
		}
	return NULL;
}

int outputs_stream(const struct restore_ctx *c, const Cpx__File *f, char ret[PATH_MAX])
{
	char name[64];
	uint32_t pid;
	const char *standard;

	if (!c->output_dir || !c->clone || (f->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	standard = standard_name(c, f, &pid);
	if (standard && (pid_t)pid == (pid_t)c->image->info->root_pid)
		snprintf(name, sizeof(name), "%s", standard);
	else if (standard)
		snprintf(name, sizeof(name), "%s-%u", standard, pid);
	else if (f->terminal)
		snprintf(name, sizeof(name), "terminal");
	else
		snprintf(name, sizeof(name), "pipe-%llu", (unsigned long long)f->pipe->ino);
	return snprintf(ret, PATH_MAX, "%s/%u/%s", c->output_dir, c->clone, name) < PATH_MAX;
}

/* ---- check ---------------------------------------------------------------------------------- */

static int check_regular(struct restore_ctx *c, const Cpx__File *f)
{
	const ProtobufCBinaryData *path = &f->regular->path->path;
	bool is_lost = f->regular->handle.len;

	if (!is_written(f) || (c->output_dir && !is_lost) || ((f->flags & O_APPEND) && !is_locked(f)) ||
	    is_common(c, f))
		return 0;
	return files_refuse_restore(c, f, "regular file",
				    "cannot be restored %u times: '%.*s' is %s, and the copies would get into "
				    "each other's way%s",
				    c->copies, (int)path->len, (const char *)path->data,
				    is_locked(f) ? "locked" : "open for writing",
				    is_lost ? "" : "; give each its own with --output-dir, or say that they can share it with --shared-file");
}

static int check_socket(struct restore_ctx *c, const Cpx__File *f)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	char name[UNIX_NAME_MAX + 8];

	if (!b->name.len || b->accepted || (b->file && b->file->deleted))
		return 0;
	unix_name_text(&b->name, name, sizeof(name));
	return files_refuse_restore(c, f, "Unix socket",
				    "cannot be restored %u times: only one of the copies could have its name %s",
				    c->copies, name);
}

static int check_fifo(struct restore_ctx *c, const Cpx__File *f)
{
	const Cpx__Path *path = f->pipe->path;

	if (!f->pipe->is_fifo || f->pipe->deleted || !path || external_head(c, f))
		return 0;
	return files_refuse_restore(c, f, "FIFO",
				    "cannot be restored %u times: the copies would all have the one '%.*s'", c->copies,
				    (int)path->path.len, (const char *)path->path.data);
}

static int check_one(struct restore_ctx *c, const Cpx__File *f)
{
	if (is_named_file(f))
		return check_regular(c, f);
	if (f->unix_socket)
		return check_socket(c, f);
	if (f->netlink && f->netlink->port)
		return files_refuse_restore(c, f, "netlink socket",
					    "cannot be restored %u times: only one of the copies could have its port %u",
					    c->copies, f->netlink->port);
	return f->pipe ? check_fifo(c, f) : 0;
}

/* One is alone with its files, but for the directory that was asked for. */
int outputs_check(struct restore_ctx *c, struct err *err)
{
	char path[PATH_MAX + 16];
	struct stat st;
	int r = 0;

	for (size_t i = 0; c->copies > 1 && i < c->image->nfiles && r == 0; i++)
		r = check_one(c, c->image->file[i]);
	for (unsigned i = 1; c->output_dir && i <= c->copies && r == 0; i++) {
		snprintf(path, sizeof(path), "%s/%u", c->output_dir, i);
		if (lstat(path, &st) == 0)
			r = refuse(c->refusals, 0, NULL, "--output-dir", "'%s' exists already: name a new directory", path);
	}
	return r < 0 ? err_nomem(err) : 0;
}
