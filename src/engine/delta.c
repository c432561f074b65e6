/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dump --parent: opens the image that the delta builds on, with all that it builds on itself, and finds
 * the tree's address spaces in it. What an address space is told by is where execve(2) put things, at
 * random: it stays with a task for life, its children have it too, and a restored task as well.
 *
 * Nothing depends on a match's being right but the size of the delta: pages are compared byte by byte.
 */
#include "engine/session.h"
#include "base/util.h"

#include <fcntl.h>
#include <sys/stat.h>

/* ---- opening ---- */

static bool is_file_of(const struct image *im, const struct stat *st)
{
	struct stat own;

	return im->source->fd >= 0 && fstat(im->source->fd, &own) == 0 && own.st_dev == st->st_dev &&
	       own.st_ino == st->st_ino;
}

/* The output would take the place of something that the delta needs. */
static bool would_overwrite(const struct image *parent, const char *output)
{
	struct stat st;

	if (strcmp(output, "-") == 0 || stat(output, &st) < 0)
		return false;
	for (const struct image *im = parent; im; im = im->parent)
		if (is_file_of(im, &st))
			return true;
	return false;
}

static size_t count_layers(const struct image *im)
{
	size_t n = 0;

	for (; im; im = im->parent)
		n++;
	return n;
}

/* The folder of a file that need not exist. */
static int folder_of(const char *file, char folder[PATH_MAX])
{
	const char *slash = strrchr(file, '/');
	char text[PATH_MAX];

	snprintf(text, sizeof(text), "%.*s", slash ? (int)(slash - file) + 1 : 1, slash ? file : ".");
	return realpath(text, folder) ? 0 : -errno;
}

/* How many bytes of both paths are the same folders. */
static size_t common_folders(const char *a, const char *b)
{
	size_t at = 0;

	for (size_t i = 0;; i++) {
		bool ends_a = !a[i] || a[i] == '/', ends_b = !b[i] || b[i] == '/';

		if (ends_a && ends_b)
			at = i;
		if (!a[i] || !b[i] || a[i] != b[i])
			return at;
	}
}

/* From the folder of the image to its parent; absolute where the image goes down a pipe. */
static int path_from(const char *output, const char *parent, char ret[PATH_MAX])
{
	char folder[PATH_MAX], text[2 * PATH_MAX] = "";
	size_t same, len = 0;

	if (strcmp(output, "-") == 0 || folder_of(output, folder) < 0)
		return snprintf(ret, PATH_MAX, "%s", parent) < PATH_MAX ? 0 : -ENAMETOOLONG;
	same = strcmp(folder, "/") == 0 ? 0 : common_folders(folder, parent);
	for (const char *p = folder + same; *p && p[1]; p++)
		if (*p == '/')
			len += (size_t)snprintf(text + len, sizeof(text) - len, "../");
	snprintf(text + len, sizeof(text) - len, "%s", parent + same + 1);
	return snprintf(ret, PATH_MAX, "%s", text) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int open_parent(struct delta *d, const char *file, struct err *err)
{
	int r;

	d->fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (d->fd < 0)
		return err_sys(err, -errno, "cannot open the parent");
	r = source_open_fd(&d->source, d->fd, err);
	if (r < 0)
		return r;
	if (!d->source.is_seekable)
		return err_set(err, -ESPIPE, "a parent must be a file");
	r = parents_init(&d->parents, file, NULL, err);
	return r < 0 ? r : image_open(&d->source, &d->parents.finder, &d->parent, err);
}

int delta_open(struct delta *d, const char *file, const char *output, struct refusals *refusals,
	       struct err *err)
{
	char real[PATH_MAX];
	int r = open_parent(d, file, err);

	if (r == -ENOENT || r == -ENOLINK)
		return refuse(refusals, 0, NULL, file, "%s", err->msg);
	if (r < 0)
		return err_context(err, "%s", file);
	if (would_overwrite(d->parent, output))
		return refuse(refusals, 0, NULL, output,
			      "is an image that the new one would build on: choose another name");
	if (count_layers(d->parent) >= LAYERS_MAX)
		return refuse(refusals, 0, NULL, file, "builds on too many images: see cpx flatten");
	if (!realpath(file, real) || path_from(output, real, d->path) < 0)
		return err_sys(err, -errno, "%s: cannot find its path", file);
	return 0;
}

void delta_release(struct delta *d)
{
	image_free(d->parent);
	source_release(&d->source);
	parents_release(&d->parents);
	if (d->fd >= 0)
		close(d->fd);
	*d = (struct delta)DELTA_INIT;
}

/* ---- address spaces ---- */

static bool is_alike(const Cpx__Mm *a, const Cpx__Mm *b)
{
	return a->start_stack == b->start_stack && a->start_code == b->start_code &&
	       a->end_code == b->end_code && a->start_data == b->start_data &&
	       a->arg_start == b->arg_start && a->env_start == b->env_start;
}

static uint32_t match_of_parent(const struct session *s, uint32_t parent_mm)
{
	for (size_t i = 0; i < s->nmms; i++)
		if (s->mm[i].msg->id == parent_mm)
			return s->mm[i].msg->before_mm;
	return 0;
}

/* The task's own, else that of the task that it was forked from, else any. */
static uint32_t match_mm(const struct session *s, const Cpx__Mm *mm)
{
	const struct image *parent = s->job->delta->parent;
	uint32_t any = 0, from = match_of_parent(s, mm->parent_mm);
	const Cpx__Mm *of_parent = image_mm(parent, from);

	for (size_t i = 0; i < parent->nmms; i++) {
		if (!is_alike(mm, parent->mm[i]))
			continue;
		if (parent->mm[i]->pid == mm->pid)
			return parent->mm[i]->id;
		any = any ? any : parent->mm[i]->id;
	}
	return of_parent && is_alike(mm, of_parent) ? from : any;
}

int delta_match(struct session *s, struct err *err)
{
	struct delta *d = s->job->delta;
	bool found = false;

	if (!d || !d->parent)
		return 0;
	for (size_t i = 0; i < s->nmms; i++) {
		s->mm[i].msg->before_mm = match_mm(s, s->mm[i].msg);
		found |= s->mm[i].msg->before_mm != 0;
	}
	if (!found && s->nmms && !s->job->is_series)
		return refuse(&s->refusals, 0, NULL, s->options->parent,
			      "is an image of another tree, or all of this one has called execve since");
	s->info->parent_path.data = (uint8_t *)strdup(d->path);
	if (!s->info->parent_path.data)
		return err_nomem(err);
	s->info->parent_path.len = strlen(d->path);
	return 0;
}
