/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the images that deltas build on, by the path recorded in the delta (relative to its folder)
 * and by the files that the caller names; a file with another id is not taken. Paths are hints of a
 * file that may be hostile: nothing but a regular file is read, and nothing waits for a FIFO.
 */
#include "engine/parents.h"
#include "base/util.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

struct parents_known {
	uint8_t id[16]; /* of the first image, which is opened later, 0 */
	char *file;
};

static int note(struct parents *p, const uint8_t id[16], const char *file)
{
	struct parents_known k = {.file = strdup(file)};

	if (!k.file || grow(&p->known, &p->max, p->n, sizeof(k)) < 0) {
		free(k.file);
		return -ENOMEM;
	}
	memcpy(k.id, id, sizeof(k.id));
	p->known[p->n++] = k;
	return 0;
}

const char *parents_path(const struct parents *p, const struct image *im)
{
	for (size_t i = 1; i < p->n; i++)
		if (memcmp(p->known[i].id, im->id, sizeof(im->id)) == 0)
			return p->known[i].file;
	return NULL;
}

/* In the folder of the child's own file. */
static int path_of_hint(const struct parents *p, const struct image *child, char path[PATH_MAX])
{
	const ProtobufCBinaryData *hint = &child->info->parent_path;
	const char *file = parents_path(p, child), *slash;
	int folder;

	file = file ? file : p->known[0].file;
	slash = strrchr(file, '/');
	folder = slash && hint->data[0] != '/' ? (int)(slash - file) + 1 : 0;
	return snprintf(path, PATH_MAX, "%.*s%.*s", folder, file, (int)hint->len,
			(const char *)hint->data) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* A regular file, ready to be read; *ret is allocated. */
static int open_source(const char *path, struct source **ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	*ret = malloc(sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	r = source_open_fd(*ret, fd, NULL);
	if (r < 0) {
		free(*ret);
		return r;
	}
	TAKE_FD(fd);
	(*ret)->owns_fd = true;
	return 0;
}

/* 0: it is the parent; -ESTALE: another image; else why it cannot be read. */
static int try_file(struct parents *p, const char *path, const struct image *child,
		    struct source **ret)
{
	struct source *s = NULL;
	uint8_t id[16];
	int r = open_source(path, &s);

	if (r < 0)
		return r;
	r = image_peek_id(s, id, NULL);
	if (r == 0 && memcmp(id, child->parent_id, sizeof(id)) != 0)
		r = -ESTALE;
	if (r == 0)
		r = note(p, id, path);
	if (r < 0) {
		source_release(s);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static const char *why(int r)
{
	return r == -ESTALE ? "is another image" : r == -EBADMSG ? "is no image" : strerror(-r);
}

static int missing(const struct image *child, const char *path, int r, struct err *err)
{
	char id[33];

	for (int i = 0; i < 16; i++)
		snprintf(id + 2 * i, 3, "%02x", child->parent_id[i]);
	return err_set(err, -ENOLINK, "builds on image %s, which is missing ('%s': %s; see --parent)",
		       id, path, why(r));
}

static int find(struct parent_finder *f, const struct image *child, struct source **ret,
		struct err *err)
{
	struct parents *p = (struct parents *)f;
	char path[PATH_MAX] = "";
	int first = -ENOENT, r = first;

	if (child->info->parent_path.len && path_of_hint(p, child, path) == 0)
		first = r = try_file(p, path, child, ret);
	for (size_t i = 0; r < 0 && r != -ENOMEM && p->given && i < p->given->n; i++) {
		r = try_file(p, p->given->file[i], child, ret);
		if (r < 0 && (first == -ENOENT || !*path)) {
			snprintf(path, sizeof(path), "%s", p->given->file[i]);
			first = r;
		}
	}
	if (r == -ENOMEM)
		return err_nomem(err);
	return r < 0 ? missing(child, path, first, err) : 0;
}

int parents_init(struct parents *p, const char *file, const struct cpx_parents *given,
		 struct err *err)
{
	static const uint8_t none[16];

	*p = (struct parents){.finder = {find}, .given = given};
	return note(p, none, file) < 0 ? err_nomem(err) : 0;
}

void parents_release(struct parents *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->known[i].file);
	free(p->known);
	*p = (struct parents){0};
}
