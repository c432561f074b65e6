/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is a file still the one that it was? A file is itself by inode number and birth time (or device,
 * where the file system has no birth times: device numbers change over a reboot). One that was
 * renamed in its directory is found there. What a task would see if it had gone on is no change: a
 * file that has grown, shrunk or been written to under its descriptor or shared mapping. What it
 * would not see is one: another file under the old name, unless it is a copy (size and time).
 *
 * The unchanged pages of private mappings, code above all, come from the file. So it must be what
 * it was, by size and time, and programs and libraries by size and build id (buildid.c):
 * reinstalled ones are other files with the same content.
 */
#include "res/buildid.h"
#include "res/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>

/* ---- dump ---- */

static int64_t to_ns(int64_t sec, int64_t nsec)
{
	return sec * 1000000000LL + nsec;
}

static bool is_recorded(const Cpx__Path *p, const struct stat *st)
{
	return st->st_ino == p->ino && st->st_dev == p->dev && (uint64_t)st->st_size == p->size &&
	       to_ns(st->st_mtim.tv_sec, st->st_mtim.tv_nsec) == p->mtime_ns;
}

/* Never one that is leased, which would be told of it. */
static int open_to_read(const char *path, int flags)
{
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || lease_is_on(&st))
		return -1;
	return open(path, flags | O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static int set_build_id(Cpx__RegularFile *b, const struct build_id *id, struct err *err)
{
	return id->len && msg_set_bytes(&b->build_id, id->byte, id->len) < 0 ? err_nomem(err) : 0;
}

/* From a mapping of it nobody is told, and nothing need be searched for. */
static int note_mapped_build_id(struct mapped_views *views, const Cpx__File *f, const char *path,
				struct err *err)
{
	struct build_id id;
	struct stat st;

	if (lstat(path, &st) < 0 || !is_recorded(f->regular->path, &st))
		return 0;
	return build_id_of_mapping(views, f->id, &id) ? set_build_id(f->regular, &id, err) : 1;
}

static int note_build_id(Cpx__RegularFile *b, const char *path, struct err *err)
{
	_cleanup_close_ int fd = open_to_read(path, O_NOFOLLOW);
	struct build_id id;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !is_recorded(b->path, &st))
		return 0;
	return build_id_of_file(fd, &id) < 0 ? err_nomem(err) : set_build_id(b, &id, err);
}

/* 0: the file system has none. */
static int64_t birth_of(const char *path, uint64_t ino)
{
	struct statx x;

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &x) < 0 ||
	    x.stx_ino != ino || !(x.stx_mask & STATX_BTIME))
		return 0;
	return to_ns(x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
}

static int identify(struct mapped_views *views, const Cpx__File *f, struct err *err)
{
	Cpx__RegularFile *b = f->regular;
	char path[PATH_MAX];
	int r = path_text(b->link_path.len ? &b->link_path : &b->path->path, path, sizeof(path),
			  err);

	if (r < 0)
		return r;
	b->path->btime_ns = birth_of(path, b->path->ino);
	if (!b->mapped_private)
		return 0;
	r = note_mapped_build_id(views, f, path, err);
	return r > 0 ? note_build_id(b, path, err) : r;
}

int files_identify(struct dump_ctx *c, const struct mapped_view *view, size_t nviews,
		   struct err *err)
{
	struct mapped_views views = {.view = view, .n = nviews, .pagemap_fd = -1};
	int r = 0;

	for (size_t i = 0; r == 0 && i < files_count(c); i++) {
		const Cpx__File *f = files_get(c, i);

		if (f->regular && f->regular->path && !f->regular->ghost)
			r = identify(&views, f, err);
	}
	cleanup_close(&views.pagemap_fd);
	return r;
}

/* ---- restore: where it is ---- */

static bool is_itself(const char *path, const Cpx__Path *p)
{
	int64_t birth = p->btime_ns ? birth_of(path, p->ino) : 0;
	struct stat st;

	if (birth)
		return birth == p->btime_ns;
	return lstat(path, &st) == 0 && st.st_ino == p->ino && st.st_dev == p->dev;
}

/* Another name in the directory of the old one. Without birth times a number that was given again
 * would be taken for the file. */
static bool find_renamed(const char *path, const Cpx__Path *p, char *ret, size_t size)
{
	const char *slash = strrchr(path, '/');
	int len = slash ? (int)(slash - path) : 0;
	struct dirent *d;

	if (!slash || !p->btime_ns || snprintf(ret, size, "%.*s/", len, path) >= (int)size)
		return false;
	_cleanup_closedir_ DIR *dir = opendir(ret);
	while (dir && (d = readdir(dir)))
		if (d->d_ino == p->ino &&
		    snprintf(ret, size, "%.*s/%s", len, path, d->d_name) < (int)size &&
		    is_itself(ret, p))
			return true;
	return false;
}

int identity_locate(const Cpx__RegularFile *b, char *path, size_t size, bool *ret_itself,
		    struct err *err)
{
	char found[PATH_MAX];
	int r = path_text(b->link_path.len ? &b->link_path : &b->path->path, path, size, err);

	if (r < 0)
		return r;
	*ret_itself = is_itself(path, b->path);
	if (!*ret_itself && find_renamed(path, b->path, found, sizeof(found)) &&
	    snprintf(path, size, "%s", found) < (int)size)
		*ret_itself = true;
	return 0;
}

/* ---- restore: what it is ---- */

/* Archives and some file systems keep no more than seconds. */
static bool has_time(const Cpx__Path *p, const struct stat *st)
{
	return to_ns(st->st_mtim.tv_sec, st->st_mtim.tv_nsec) == p->mtime_ns ||
	       (st->st_mtim.tv_nsec == 0 && st->st_mtim.tv_sec == p->mtime_ns / 1000000000);
}

/* Its files are made as they are looked at. */
static bool is_of_kernel(const char *path)
{
	static const unsigned long magic[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC,	     CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
		DEBUGFS_MAGIC,	  TRACEFS_MAGIC,     SECURITYFS_MAGIC,	 BPF_FS_MAGIC,
	};
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(magic); i++)
		if ((unsigned long)fs.f_type == magic[i])
			return true;
	return false;
}

/* Of a regular file. Whoever has leased it may be told of it, unlike at the dump: the restore is going to open it anyway, and
 * to look for leases takes several milliseconds (fs/locks.c, locks_start: a grace period of RCU). */
static bool has_build_id(const char *path, const ProtobufCBinaryData *want)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct build_id id;

	return fd >= 0 && build_id_of_file(fd, &id) == 0 && id.len == want->len &&
	       memcmp(id.byte, want->data, id.len) == 0;
}

static const char *mapped_change(const Cpx__RegularFile *b, const char *path,
				 const struct stat *st, bool itself)
{
	bool is_old = has_time(b->path, st);

	if (b->path->size != (uint64_t)st->st_size)
		return "it has another size";
	if (b->build_id.len && !has_build_id(path, &b->build_id))
		return "it has another build id";
	if (!is_old && itself)
		return "it was written to";
	return is_old || b->build_id.len ? NULL : "it was written at another time";
}

const char *identity_change(const Cpx__RegularFile *b, const char *path, bool itself)
{
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL; /* others say so */
	if (b->mapped_private)
		return mapped_change(b, path, &st, itself);
	if (itself || (b->path->size == (uint64_t)st.st_size && has_time(b->path, &st)))
		return NULL;
	return is_of_kernel(path) ? NULL : "it is another one, with another size or time";
}

bool identity_is_listed(const char *const *list, size_t n, const char *path)
{
	struct stat a, b;

	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], path) == 0 ||
		    (stat(list[i], &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
		     a.st_ino == b.st_ino))
			return true;
	return false;
}

bool identity_is_allowed(const struct restore_ctx *c, const char *path)
{
	return identity_is_listed(c->allow_changed, c->nallow_changed, path);
}
