/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files behind mappings: a tree has the same programs and libraries in all its tasks, and to find out whether a name
 * still leads to what is mapped takes several microseconds. Tasks with one root directory (statx(2), STATX_MNT_ID) that
 * map the same inode under the same name have the same file.
 *
 * Not so where inode numbers are not those of a device (btrfs: maps and stat(2) differ in it), and not for deleted files.
 */
#include "res/knownfiles.h"

#include "base/util.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

struct known_file {
	struct known_root root;
	struct stat st;
	char *path;
};

struct known_files {
	struct known_file *file;
	size_t n, max;
};

struct known_root known_files_root(int root_fd)
{
	struct statx x;

	if (statx(root_fd, "", AT_EMPTY_PATH, STATX_MNT_ID | STATX_INO, &x) < 0 ||
	    !(x.stx_mask & STATX_MNT_ID))
		return (struct known_root){0};
	return (struct known_root){x.stx_mnt_id, x.stx_ino};
}

static bool is_of(const struct known_file *f, const struct known_root *root, const struct proc_vma *v)
{
	return f->st.st_ino == v->ino && f->st.st_dev == makedev(v->dev_major, v->dev_minor) &&
	       f->root.mount == root->mount && f->root.ino == root->ino && strcmp(f->path, v->path) == 0;
}

static const struct known_file *find(const struct dump_ctx *c, const struct known_root *root,
				     const struct proc_vma *v)
{
	const struct known_files *k = c->known_files;

	for (size_t i = 0; k && i < k->n && !v->is_deleted; i++)
		if (is_of(&k->file[i], root, v))
			return &k->file[i];
	return NULL;
}

static int add(struct dump_ctx *c, const struct known_root *root, const char *path, const struct stat *st)
{
	struct known_files *k = c->known_files;
	char *copy = strdup(path);

	if (!k)
		k = c->known_files = calloc(1, sizeof(*k));
	if (!k || !copy || grow(&k->file, &k->max, k->n, sizeof(*k->file)) < 0) {
		free(copy);
		return -ENOMEM;
	}
	k->file[k->n++] = (struct known_file){*root, *st, copy};
	return 0;
}

enum { MANY = 256 }; /* more would take longer to search for */

int known_files_resolve(struct dump_ctx *c, const struct known_root *root, int dir, int root_fd, struct proc_vma *v,
			struct stat *ret_st, struct err *err)
{
	const struct known_file *f = root->mount ? find(c, root, v) : NULL;
	bool was_deleted = v->is_deleted;
	int r;

	if (f) {
		*ret_st = f->st;
		return 0;
	}
	r = proc_vma_resolve(dir, root_fd, v, ret_st, err);
	if (r < 0 || !root->mount || was_deleted || v->is_deleted || ret_st->st_ino != v->ino ||
	    ret_st->st_dev != makedev(v->dev_major, v->dev_minor) || !ret_st->st_mode ||
	    (c->known_files && c->known_files->n >= MANY))
		return r;
	return add(c, root, v->path, ret_st) < 0 ? err_nomem(err) : 0;
}

void known_files_release(struct dump_ctx *c)
{
	struct known_files *k = c->known_files;

	for (size_t i = 0; k && i < k->n; i++)
		free(k->file[i].path);
	if (k)
		free(k->file);
	free(k);
	c->known_files = NULL;
}
