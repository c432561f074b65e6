/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deleted directories that are still open, or the working or root directory of a task. Nothing can
 * be in one, so all there is to keep is what it was called, its mode, owner and time.
 *
 * At restore all of them are made at once, where they were (below directories that are made and
 * removed again, too, if their parents are gone; under another name if theirs is taken), opened, and
 * removed. Not kept: inode numbers; where ".." leads if the parent was deleted, too.
 */
#include "res/ghostdir.h"

#include <fcntl.h>
#include <limits.h>

/* ---- dump ---- */

int ghostdir_dump(const char *path, const struct stat *st, Cpx__Directory **ret, struct err *err)
{
	Cpx__Directory *d = MSG_NEW(Cpx__Directory, cpx__directory__init);

	if (!d)
		return err_nomem(err);
	*ret = d;
	d->deleted = true;
	d->uid = st->st_uid;
	d->gid = st->st_gid;
	return path_record(path, st, &d->path, err);
}

/* ---- restore: checks ---- */

/* Cuts a path to its parent; "" is the root directory's. */
static void cut(char *path)
{
	char *slash = strrchr(path, '/');

	*(slash ? slash : path) = '\0';
}

const char *ghostdir_why_not(const Cpx__Directory *d, char path[PATH_MAX], struct err *err)
{
	struct stat st;

	if (path_text(&d->path->path, path, PATH_MAX, err) < 0 || path[0] != '/')
		return "it has no path";
	do
		cut(path);
	while (*path && stat(path, &st) < 0 && errno == ENOENT);
	if (!*path)
		strcpy(path, "/");
	if (access(path, W_OK | X_OK) == 0)
		return NULL;
	return "it was deleted, and to make it again is not allowed there";
}

/* ---- restore: making them ---- */

struct ghost_dir {
	const Cpx__Directory *d;
	char path[PATH_MAX];
	int fd; /* -1 */
};

struct ghost_dirs {
	struct ghost_dir *dir;
	size_t n, max;
	char **made; /* what is to be removed, in reverse order */
	size_t nmade, maxmade;
};

static bool is_same(const Cpx__Path *a, const Cpx__Path *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static int add(struct ghost_dirs *g, const Cpx__Directory *d, struct err *err)
{
	struct ghost_dir *item;

	if (!d || !d->deleted)
		return 0;
	for (size_t i = 0; i < g->n; i++)
		if (is_same(g->dir[i].d->path, d->path))
			return 0;
	if (grow(&g->dir, &g->max, g->n, sizeof(*g->dir)) < 0)
		return err_nomem(err);
	item = &g->dir[g->n++];
	*item = (struct ghost_dir){.d = d, .fd = -1};
	return path_text(&d->path->path, item->path, sizeof(item->path), err);
}

static int compare(const void *a, const void *b)
{
	size_t x = strlen(((const struct ghost_dir *)a)->path);
	size_t y = strlen(((const struct ghost_dir *)b)->path);

	return x < y ? -1 : x > y;
}

/* Parents come before their children. */
static int collect(struct restore_ctx *c, struct ghost_dirs *g, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->image->nfiles; i++)
		r = add(g, c->image->file[i]->directory, err);
	for (size_t i = 0; r == 0 && i < c->image->ntasks; i++) {
		const Cpx__Fs *fs = c->image->task[i]->fs;

		r = fs ? add(g, fs->deleted_cwd, err) : 0;
		if (r == 0 && fs)
			r = add(g, fs->deleted_root, err);
	}
	if (g->n)
		qsort(g->dir, g->n, sizeof(*g->dir), compare);
	return r;
}

static int note_made(struct ghost_dirs *g, const char *path, struct err *err)
{
	if (grow(&g->made, &g->maxmade, g->nmade, sizeof(*g->made)) < 0 ||
	    !(g->made[g->nmade] = strdup(path))) {
		rmdir(path);
		return err_nomem(err);
	}
	g->nmade++;
	return 0;
}

static int make_parents(struct ghost_dirs *g, const char *path, struct err *err)
{
	char part[PATH_MAX];
	int r = 0;

	snprintf(part, sizeof(part), "%s", path);
	for (char *s = strchr(part + 1, '/'); s && r == 0; s = strchr(s + 1, '/')) {
		*s = '\0';
		if (mkdir(part, 0700) == 0)
			r = note_made(g, part, err);
		*s = '/';
	}
	return r;
}

static int make(struct restore_ctx *c, struct ghost_dirs *g, struct ghost_dir *d, struct err *err)
{
	char near[PATH_MAX + 32];
	int r = make_parents(g, d->path, err);

	if (r < 0)
		return r;
	snprintf(near, sizeof(near), "%s", d->path);
	if (mkdir(near, 0700) < 0) {
		cut(near);
		strcat(near, "/.cpx-XXXXXX");
		if (!mkdtemp(near))
			return err_sys(err, -errno, "cannot make the deleted directory '%s' again",
				       d->path);
	}
	r = note_made(g, near, err);
	if (r < 0)
		return r;
	d->fd = open(near, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", near);
	d->fd = fd_raise(c, d->fd, err);
	return MIN(d->fd, 0);
}

static int remove_all(struct ghost_dirs *g, struct err *err)
{
	int r = 0;

	while (g->nmade) {
		_cleanup_free_ char *path = g->made[--g->nmade];

		if (rmdir(path) < 0 && r == 0)
			r = err_sys(err, -errno, "cannot delete the directory '%s' again", path);
	}
	return r;
}

/* When they are removed, which needs them writable and changes their times. */
static int set_attributes(const struct ghost_dir *d, struct err *err)
{
	const Cpx__Path *p = d->d->path;
	struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = p->mtime_ns / 1000000000, .tv_nsec = p->mtime_ns % 1000000000}};

	if (((d->d->uid != geteuid() || d->d->gid != getegid()) &&
	     fchown(d->fd, d->d->uid, d->d->gid) < 0 && geteuid() == 0) ||
	    fchmod(d->fd, p->mode & 07777) < 0 || futimens(d->fd, times) < 0)
		return err_sys(err, -errno, "cannot set the mode of the deleted directory '%s'",
			       d->path);
	return 0;
}

static int make_all(struct restore_ctx *c, struct err *err)
{
	struct ghost_dirs *g = c->ghost_dirs = calloc(1, sizeof(*g));
	struct err first = ERR_INIT;
	int r = g ? collect(c, g, err) : err_nomem(err), removed;

	for (size_t i = 0; r == 0 && i < g->n; i++)
		r = make(c, g, &g->dir[i], err);
	removed = g ? remove_all(g, &first) : 0;
	if (r == 0 && removed < 0)
		r = err_set(err, removed, "%s", first.msg);
	for (size_t i = 0; r == 0 && i < g->n; i++)
		r = set_attributes(&g->dir[i], err);
	return r;
}

int ghostdir_fd(struct restore_ctx *c, const Cpx__Directory *d, struct err *err)
{
	int r = c->ghost_dirs ? 0 : make_all(c, err);

	for (size_t i = 0; r == 0 && i < c->ghost_dirs->n; i++)
		if (is_same(c->ghost_dirs->dir[i].d->path, d->path))
			return c->ghost_dirs->dir[i].fd;
	return r < 0 ? r : err_set(err, -EBADMSG, "a deleted directory is missing");
}

void ghostdirs_release(struct restore_ctx *c)
{
	struct ghost_dirs *g = TAKE_PTR(c->ghost_dirs);

	if (!g)
		return;
	for (size_t i = 0; i < g->n; i++)
		if (g->dir[i].fd >= 0)
			close(g->dir[i].fd);
	free(g->made);
	free(g->dir);
	free(g);
}
