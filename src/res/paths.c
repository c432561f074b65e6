/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names of files: what the links of /proc say, whether it is still true, and whether it is there at
 * restore. A name is good when a stat of it gives the device and inode of the descriptor.
 *
 * A file that was deleted under its name but has other names is found again only in the same
 * directory.
 */
#include "res/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

static const char deleted[] = " (deleted)";

static bool is_same(const char *path, const struct stat *st)
{
	struct stat now;

	return fstatat(AT_FDCWD, path, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	       now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

/* Another name of the file in the directory that its old name was in. */
static bool find_link(const char *path, const struct stat *st, char *link, size_t size)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;
	char dirname[PATH_MAX];
	struct dirent *d;

	if (!slash ||
	    snprintf(dirname, sizeof(dirname), "%.*s/", len, path) >= (int)sizeof(dirname))
		return false;
	_cleanup_closedir_ DIR *dir = opendir(dirname);
	while (dir && (d = readdir(dir)))
		if (d->d_ino == st->st_ino &&
		    snprintf(link, size, "%.*s/%s", len, path, d->d_name) < (int)size &&
		    is_same(link, st))
			return true;
	return false;
}

/* NFS keeps a deleted file that is open under such a name, and only as long as it is open. */
static bool is_silly_renamed(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && strncmp(slash, "/.nfs0", 6) == 0;
}

enum path_state path_examine(char *path, const struct stat *st, char *link, size_t size)
{
	size_t len = strlen(path), cut = sizeof(deleted) - 1;
	bool has_suffix = len > cut && strcmp(path + len - cut, deleted) == 0;

	if (st->st_nlink > 0 && is_same(path, st))
		return is_silly_renamed(path) ? PATH_DELETED : PATH_SAME;
	if (!has_suffix)
		return PATH_DIFFERENT;
	path[len - cut] = '\0';
	if (st->st_nlink == 0)
		return PATH_DELETED;
	return find_link(path, st, link, size) ? PATH_UNLINKED : PATH_LOST;
}

int path_record(const char *path, const struct stat *st, Cpx__Path **ret, struct err *err)
{
	Cpx__Path *p = msg_new(sizeof(*p), (void (*)(void *))cpx__path__init);

	if (!p || msg_set_bytes(&p->path, path, strlen(path)) < 0) {
		free(p);
		return err_nomem(err);
	}
	p->dev = st->st_dev;
	p->ino = st->st_ino;
	p->size = st->st_size;
	p->mtime_ns = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec;
	p->mode = st->st_mode;
	*ret = p;
	return 0;
}

int path_dump(struct dump_ctx *c, const struct fd_probe *p, const char *kind, Cpx__Path **ret,
	      struct err *err)
{
	char path[sizeof(p->link)], link[PATH_MAX];

	snprintf(path, sizeof(path), "%s", p->link);
	switch (path_examine(path, &p->st, link, sizeof(link))) {
	case PATH_SAME:
		return path_record(path, &p->st, ret, err);
	case PATH_UNLINKED:
		return path_record(link, &p->st, ret, err);
	case PATH_DELETED:
	case PATH_LOST:
		return files_refuse(c, p, kind, "cannot be checkpointed: '%s' was deleted", path);
	case PATH_DIFFERENT:
		break;
	}
	return files_refuse(c, p, kind,
			    "cannot be checkpointed: '%s' is not the file that is open "
			    "(replaced, mounted over, or in another mount namespace)",
			    path);
}

int path_text(const ProtobufCBinaryData *b, char *buf, size_t size, struct err *err)
{
	if (b->len == 0 || b->len >= size || memchr(b->data, '\0', b->len))
		return err_set(err, -EBADMSG, "the image holds a path that cannot be one");
	memcpy(buf, b->data, b->len);
	buf[b->len] = '\0';
	return 0;
}

static int access_mode(uint32_t flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return R_OK;
	case O_WRONLY:
		return W_OK;
	default:
		return R_OK | W_OK;
	}
}

int path_check(struct restore_ctx *c, const Cpx__Path *path, mode_t type, uint32_t flags,
	       const char *kind, struct err *err)
{
	char text[PATH_MAX];
	struct stat st;
	int r = path_text(&path->path, text, sizeof(text), err);

	if (r < 0)
		return r;
	if (fstatat(AT_FDCWD, text, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		if (r == -ENOENT || r == -ENOTDIR)
			return refuse(c->refusals, 0, NULL, text,
				      "cannot be restored: this %s is missing", kind);
		return refuse(c->refusals, 0, NULL, text,
			      "cannot be restored: this %s cannot be examined: %s", kind,
			      strerror(-r));
	}
	if ((st.st_mode & S_IFMT) != type)
		return refuse(c->refusals, 0, NULL, text,
			      "cannot be restored: it is not a %s any more", kind);
	if (!(flags & O_PATH) && faccessat(AT_FDCWD, text, access_mode(flags), AT_EACCESS) < 0)
		return refuse(c->refusals, 0, NULL, text,
			      "cannot be restored: this %s cannot be opened as it was: %s", kind,
			      strerror(errno));
	return 0;
}
