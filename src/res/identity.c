/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is a file still the one that it was? A file is itself by inode number and birth time (or device,
 * where the file system has no birth times: device numbers change over a reboot). One that was
 * renamed in its directory is found there. What a task would see if it had gone on is no change: a
 * file that has grown, shrunk or been written to under its descriptor or shared mapping. What it
 * would not see is one: another file under the old name, unless it is a copy (size and time).
 *
 * The unchanged pages of private mappings, code above all, come from the file. So it must be what
 * it was, by size and time, and programs and libraries by size and build id (the note of
 * ld(1) --build-id): reinstalled ones are other files with the same content.
 */
#include "res/files.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#define BUILD_ID_MAX 64
#define NOTES_MAX    65536
#define PHDRS_MAX    128

/* ---- build ids ---- */

/* Notes are of two words of length, a type, a name and a description, each padded to four bytes. */
static void find_build_id(const uint8_t *notes, size_t len, uint8_t *ret, size_t *ret_len)
{
	Elf64_Nhdr h;

	for (size_t at = 0; at + sizeof(h) <= len;) {
		size_t name, desc, end;

		memcpy(&h, notes + at, sizeof(h));
		name = at + sizeof(h);
		desc = name + ALIGN_UP((size_t)h.n_namesz, 4);
		end = desc + ALIGN_UP((size_t)h.n_descsz, 4);
		if (desc + h.n_descsz > len || desc < name)
			return;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 &&
		    memcmp(notes + name, "GNU", 4) == 0 && h.n_descsz <= BUILD_ID_MAX) {
			memcpy(ret, notes + desc, h.n_descsz);
			*ret_len = h.n_descsz;
			return;
		}
		at = end;
	}
}

static int read_notes(int fd, const Elf64_Phdr *p, uint8_t *ret, size_t *ret_len)
{
	size_t len = MIN(p->p_filesz, (Elf64_Xword)NOTES_MAX);
	_cleanup_free_ uint8_t *notes = malloc(len + 1);
	ssize_t n;

	if (!notes)
		return -ENOMEM;
	n = pread(fd, notes, len, p->p_offset);
	if (n > 0)
		find_build_id(notes, n, ret, ret_len);
	return 0;
}

/* *ret_len stays 0 if the file has none. */
static int read_build_id(int fd, uint8_t ret[BUILD_ID_MAX], size_t *ret_len)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	ssize_t n;
	int r = 0;

	*ret_len = 0;
	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph[0]))
		return 0;
	n = pread(fd, ph, MIN(eh.e_phnum, PHDRS_MAX) * sizeof(ph[0]), eh.e_phoff);
	for (size_t i = 0; r == 0 && n > 0 && i < n / sizeof(ph[0]) && !*ret_len; i++)
		if (ph[i].p_type == PT_NOTE)
			r = read_notes(fd, &ph[i], ret, ret_len);
	return r;
}

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

static int note_build_id(Cpx__RegularFile *b, const char *path, struct err *err)
{
	_cleanup_close_ int fd = open_to_read(path, O_NOFOLLOW);
	uint8_t id[BUILD_ID_MAX];
	struct stat st;
	size_t len;

	if (fd < 0 || fstat(fd, &st) < 0 || !is_recorded(b->path, &st))
		return 0;
	if (read_build_id(fd, id, &len) < 0 || (len && msg_set_bytes(&b->build_id, id, len) < 0))
		return err_nomem(err);
	return 0;
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

static int identify(Cpx__RegularFile *b, struct err *err)
{
	char path[PATH_MAX];
	int r = path_text(b->link_path.len ? &b->link_path : &b->path->path, path, sizeof(path),
			  err);

	if (r < 0)
		return r;
	b->path->btime_ns = birth_of(path, b->path->ino);
	return b->mapped_private ? note_build_id(b, path, err) : 0;
}

int files_identify(struct dump_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < files_count(c); i++) {
		Cpx__RegularFile *b = files_get(c, i)->regular;

		if (b && b->path && !b->ghost)
			r = identify(b, err);
	}
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
	uint8_t id[BUILD_ID_MAX];
	size_t len = 0;

	return fd >= 0 && read_build_id(fd, id, &len) == 0 && len == want->len &&
	       memcmp(id, want->data, len) == 0;
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
