/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared content at restore: made once, in the coordinator, filled chunk by chunk, and inherited by
 * the tasks as descriptors (memfds, deleted files), as mappings (shared anonymous memory), or found
 * by id (SysV).
 */
#include "base/log.h"
#include "res/objects.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#define SIZE_LIMIT (1ULL << 46)

size_t objects_index(const struct restore_ctx *c, uint32_t id)
{
	uint32_t i = id - OBJECT_ID_BASE;

	if (i < c->image->nobjects && c->image->object[i]->id == id)
		return i;
	for (i = 0; i < c->image->nobjects; i++)
		if (c->image->object[i]->id == id)
			return i;
	return SIZE_MAX;
}

/* ---- check ---- */

static int check_one(struct restore_ctx *c, const Cpx__Object *o, struct err *err)
{
	if (o->size > SIZE_LIMIT || o->name.len > 249 ||
	    (o->name.len && memchr(o->name.data, '\0', o->name.len)))
		return err_set(err, -EBADMSG,
			       "object %u: the image holds an impossible size or name", o->id);
	if (o->hugepage_shift && (o->hugepage_shift < 13 || o->hugepage_shift > 40))
		return err_set(err, -EBADMSG, "object %u: the image holds an impossible page size",
			       o->id);
	return o->type == CPX__OBJECT__TYPE__SYSV ? sysvshm_check(c, o, err) : 0;
}

int objects_check(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < c->image->nobjects; i++)
		r = check_one(c, c->image->object[i], err);
	return r < 0 ? r : 0;
}

/* ---- making them ---- */

static int arrays_init(struct restore_ctx *c, struct err *err)
{
	size_t n = c->image->nobjects + 1;

	if (c->object_fd)
		return 0;
	c->object_fd = malloc(n * sizeof(*c->object_fd));
	c->object_map = calloc(n, sizeof(*c->object_map));
	c->object_shmid = malloc(n * sizeof(*c->object_shmid));
	if (!c->object_fd || !c->object_map || !c->object_shmid)
		return err_nomem(err);
	memset(c->object_fd, 0xff, n * sizeof(*c->object_fd));
	memset(c->object_shmid, 0xff, n * sizeof(*c->object_shmid));
	return 0;
}

static int set_size(int fd, const Cpx__Object *o, struct err *err)
{
	if (ftruncate(fd, o->size) == 0)
		return fd;
	int r = err_sys(err, -errno, "cannot make a file of %llu bytes",
			(unsigned long long)o->size);

	close(fd);
	return r;
}

static int make_memfd(const Cpx__Object *o, struct err *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	char name[256];
	int fd;

	if (o->hugepage_shift)
		flags |= MFD_HUGETLB | o->hugepage_shift << MAP_HUGE_SHIFT;
	snprintf(name, sizeof(name), "%.*s", (int)o->name.len, (const char *)o->name.data);
	fd = memfd_create(name, flags | MFD_EXEC); /* since Linux 6.3 one says which */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	return fd < 0 ? err_sys(err, -errno, "cannot make memfd '%s'", name) : set_size(fd, o, err);
}

/* Under its old name where that is free, so that /proc says "/old/name (deleted)"; else nearby;
 * else in /tmp. */
static int make_unnamed(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char near[PATH_MAX + 32];
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0) {
		unlink(path);
		return fd;
	}
	snprintf(near, sizeof(near), "%.*s/.cpx-XXXXXX", slash ? (int)(slash - path) : 0, path);
	fd = mkostemp(near, O_CLOEXEC);
	if (fd < 0) {
		snprintf(near, sizeof(near), "/tmp/.cpx-XXXXXX");
		fd = mkostemp(near, O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys(err, -errno, "cannot make the deleted file '%s' again", path);
	unlink(near);
	return fd;
}

/* One that never had a name: whoever made it can still give it one (linkat(2)), which no file can
 * have that was deleted. */
static int make_tmpfile(const char *path, uint32_t flags, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	int fd;

	flags = (flags & O_ACCMODE) | O_TMPFILE | O_CLOEXEC;
	snprintf(dir, sizeof(dir), "%.*s/", slash ? (int)(slash - path) : 0, path);
	fd = open(dir, flags, 0600);
	if (fd < 0)
		fd = open("/tmp", flags, 0600);
	return fd < 0 ? err_sys(err, -errno, "cannot make a file without a name in '%s'", dir) : fd;
}

/* The record of its file; that of who made it, if it never had a name. */
static const Cpx__File *find_ghost(const struct restore_ctx *c, const Cpx__Object *o)
{
	const Cpx__File *found = NULL;

	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__File *f = c->image->file[i];

		if (f->regular && f->regular->ghost == o->id && f->regular->path &&
		    (!found || regular_is_tmpfile(f)))
			found = f;
	}
	return found;
}

static int make_ghost(const struct restore_ctx *c, const Cpx__Object *o, struct err *err)
{
	const Cpx__File *f = find_ghost(c, o);
	char path[PATH_MAX];
	int r;

	if (!f)
		return err_set(err, -EBADMSG, "object %u: a deleted file without a name", o->id);
	r = path_text(&f->regular->path->path, path, sizeof(path), err);
	if (r == 0)
		r = regular_is_tmpfile(f) ? make_tmpfile(path, f->flags, err)
					  : make_unnamed(path, err);
	return r < 0 ? r : set_size(r, o, err);
}

int objects_fd(struct restore_ctx *c, uint32_t object_id, struct err *err)
{
	size_t i = objects_index(c, object_id);
	const Cpx__Object *o;
	int r;

	if (i == SIZE_MAX)
		return err_set(err, -EBADMSG, "object %u is missing", object_id);
	r = arrays_init(c, err);
	if (r < 0 || c->object_fd[i] >= 0)
		return r < 0 ? r : c->object_fd[i];
	o = c->image->object[i];
	if (o->type == CPX__OBJECT__TYPE__SHM_ANON || o->type == CPX__OBJECT__TYPE__SYSV)
		return err_set(err, -EBADMSG, "object %u is no file", object_id);
	r = o->type == CPX__OBJECT__TYPE__GHOST_FILE ? make_ghost(c, o, err) : make_memfd(o, err);
	if (r >= 0)
		r = fd_raise(c, r, err);
	if (r >= 0)
		c->object_fd[i] = r;
	return r;
}

static uint64_t page_size_of(const Cpx__Object *o)
{
	return o->hugepage_shift ? 1ULL << o->hugepage_shift : CPX_PAGE_SIZE;
}

bool objects_need_ids(const struct image *im)
{
	for (size_t i = 0; i < im->nobjects; i++)
		if (im->object[i]->type == CPX__OBJECT__TYPE__SYSV)
			return true;
	return false;
}

uint64_t objects_stage_size(const struct image *im)
{
	uint64_t size = 0;

	for (size_t i = 0; i < im->nobjects; i++)
		if (im->object[i]->type == CPX__OBJECT__TYPE__SHM_ANON)
			size += ALIGN_UP(im->object[i]->size, CPX_PAGE_SIZE);
	return size;
}

static int stage(struct restore_ctx *c, size_t i, uint64_t *at, struct err *err)
{
	uint64_t start = *at, len = ALIGN_UP(c->image->object[i]->size, CPX_PAGE_SIZE);
	void *p = mmap((void *)start, len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map %llu bytes of shared memory",
			       (unsigned long long)len);
	if ((uint64_t)p != start) {
		munmap(p, len);
		return err_set(err, -EEXIST, "the place for shared memory is taken");
	}
	c->object_map[i] = p;
	*at = start + len;
	return 0;
}

/* Files of huge pages cannot be written to, only mapped: without a claim to those that hold nothing. */
static int map_huge(struct restore_ctx *c, size_t i, struct err *err)
{
	const Cpx__Object *o = c->image->object[i];
	uint64_t len = ALIGN_UP(o->size, page_size_of(o));
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		       c->object_fd[i], 0);

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map %llu bytes of huge pages (vm.nr_hugepages)",
			       (unsigned long long)len);
	c->object_map[i] = p;
	return 0;
}

static int create_one(struct restore_ctx *c, size_t i, uint64_t *at, struct err *err)
{
	const Cpx__Object *o = c->image->object[i];
	int r;

	if (o->type == CPX__OBJECT__TYPE__SHM_ANON)
		return o->size ? stage(c, i, at, err) : 0;
	if (o->type == CPX__OBJECT__TYPE__SYSV)
		return sysvshm_create(c, o, &c->object_shmid[i], &c->object_map[i], err);
	r = objects_fd(c, o->id, err);
	if (r >= 0)
		r = o->hugepage_shift && o->size ? map_huge(c, i, err) : 0;
	return r;
}

int objects_create(struct restore_ctx *c, uint64_t stage_at, struct err *err)
{
	int r = arrays_init(c, err);

	for (size_t i = 0; r == 0 && i < c->image->nobjects; i++)
		r = create_one(c, i, &stage_at, err);
	return r;
}

int objects_shmid(const struct restore_ctx *c, uint32_t object_id)
{
	size_t i = objects_index(c, object_id);

	return i == SIZE_MAX || !c->object_shmid ? -1 : c->object_shmid[i];
}

/* ---- content ---- */

static int fill_piece(struct restore_ctx *c, size_t i, const struct piece *e, const uint8_t *data,
		      struct err *err)
{
	uint64_t size = c->image->object[i]->size, len = MIN(e->len, size - e->addr), done = 0;

	if (c->object_map[i]) {
		memcpy((uint8_t *)c->object_map[i] + e->addr, data, len);
		return 0;
	}
	while (done < len) { /* the last page is cut at the end of the file */
		ssize_t n = pwrite(c->object_fd[i], data + done, len - done, e->addr + done);

		if (n < 0 && errno != EINTR)
			return err_sys(err, -errno, "cannot write shared memory");
		done += MAX(n, 0);
	}
	return 0;
}

int objects_fill(struct restore_ctx *c, const struct chunk_ref *chunk, const void *data,
		 struct err *err)
{
	size_t i = objects_index(c, chunk->object);
	const uint8_t *bytes = data;

	if (i == SIZE_MAX || !c->object_fd || (!c->object_map[i] && c->object_fd[i] < 0))
		return err_set(err, -EBADMSG, "object %u: has content but is not there",
			       chunk->object);
	for (unsigned k = 0; k < chunk->n; k++) {
		const struct piece *e = &chunk->piece[k];
		int r;

		if (chunk->kind != CHUNK_DATA || e->addr >= c->image->object[i]->size)
			return err_set(err, -EBADMSG, "object %u: has content outside of it",
				       chunk->object);
		r = fill_piece(c, i, e, bytes + e->from, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the end ---- */

/* Owner and mode as far as we may: an ordinary user cannot give files away. */
static void set_attributes(int fd, const Cpx__Object *o)
{
	struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = o->mtime_ns / 1000000000, .tv_nsec = o->mtime_ns % 1000000000}};
	struct stat st;

	if (!o->has_mode || fstat(fd, &st) < 0)
		return;
	if ((st.st_uid != o->uid || st.st_gid != o->gid) && fchown(fd, o->uid, o->gid) < 0)
		log_debug("object %u: owner %u:%u cannot be set", o->id, o->uid, o->gid);
	if (fchmod(fd, o->mode & 07777) < 0 || futimens(fd, times) < 0)
		log_debug("object %u: mode or time cannot be set", o->id);
}

static int seal(int fd, const Cpx__Object *o, uint32_t seals, struct err *err)
{
	if (o->type != CPX__OBJECT__TYPE__MEMFD || !seals || fcntl(fd, F_ADD_SEALS, seals) == 0)
		return 0;
	return err_sys(err, -errno, "cannot seal memfd '%.*s'", (int)o->name.len,
		       (const char *)o->name.data);
}

/* Seals that must wait for the tree's own writable mappings, and the seal on sealing behind them.
 */
static uint32_t late_seals(const Cpx__Object *o)
{
	return o->seals & F_SEAL_FUTURE_WRITE ? o->seals & (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) : 0;
}

static void unmap_one(struct restore_ctx *c, size_t i)
{
	const Cpx__Object *o = c->image->object[i];

	if (!c->object_map[i])
		return;
	if (o->type == CPX__OBJECT__TYPE__SYSV)
		shmdt(c->object_map[i]);
	else
		munmap(c->object_map[i], ALIGN_UP(o->size, page_size_of(o)));
	c->object_map[i] = NULL;
}

/* Tasks inherit what is open now. A file that may be written to cannot be anybody's program, so
 * that it is closed as soon as its descriptions exist. */
int objects_finish(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && c->object_fd && i < c->image->nobjects; i++) {
		const Cpx__Object *o = c->image->object[i];

		if (c->object_fd[i] < 0)
			continue;
		set_attributes(c->object_fd[i], o);
		unmap_one(c, i); /* huge pages: or they could not be sealed */
		r = seal(c->object_fd[i], o, o->seals & ~late_seals(o), err);
		if (!late_seals(o) && o->type != CPX__OBJECT__TYPE__HUGETLB)
			close(TAKE_FD(c->object_fd[i]));
	}
	return r;
}

static int settle_one(struct restore_ctx *c, size_t i, struct err *err)
{
	const Cpx__Object *o = c->image->object[i];
	int r = 0;

	if (c->object_fd[i] >= 0)
		r = seal(c->object_fd[i], o, late_seals(o), err);
	if (o->type != CPX__OBJECT__TYPE__SYSV || !c->object_map[i])
		return r;
	r = sysvshm_finish(o, c->object_shmid[i], err);
	c->object_shmid[i] = -1; /* the tree's from now on: not to be undone */
	return r;
}

static void drop_one(struct restore_ctx *c, size_t i)
{
	if (c->object_fd[i] >= 0)
		close(TAKE_FD(c->object_fd[i]));
	unmap_one(c, i);
}

int objects_settle(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && c->object_fd && i < c->image->nobjects; i++) {
		r = settle_one(c, i, err);
		drop_one(c, i);
	}
	return r;
}

/* Not one that was there before and that we took over. */
static void remove_segment(int shmid)
{
	struct shmid_ds ds;

	if (shmid >= 0 && shmctl(shmid, IPC_STAT, &ds) == 0 && ds.shm_cpid == getpid())
		shmctl(shmid, IPC_RMID, NULL);
}

void objects_close_all(struct restore_ctx *c)
{
	for (size_t i = 0; c->object_fd && i < c->image->nobjects; i++) {
		drop_one(c, i);
		remove_segment(c->object_shmid[i]);
	}
	free(TAKE_PTR(c->object_fd));
	free(TAKE_PTR(c->object_map));
	free(TAKE_PTR(c->object_shmid));
}
