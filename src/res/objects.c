/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared content at dump time: shared anonymous memory, memfds, SysV segments, deleted files.
 *
 * A twin does not own it, so it is copied aside while the tree is frozen: only what is populated
 * (SEEK_DATA of a description of our own, made through /proc/self/fd) and not zero goes into a
 * memfd, at the same offsets, from which the chunks are written later. Where cpx may not open the
 * object (/proc/PID/map_files needs cap_checkpoint_restore) it is read through the tasks that map
 * it, by /proc/PID/mem; reading fills its holes with zero pages then.
 */
#include "res/objects.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define STEP CHUNK_MAX

/* ---- finding and adding ---- */

static struct object_entry *find(const struct object_table *ot, Cpx__Object__Type type,
				 uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < ot->n; i++)
		if (ot->entry[i].object->type == type && ot->entry[i].dev == dev &&
		    ot->entry[i].ino == ino)
			return &ot->entry[i];
	return NULL;
}

static struct object_table *table_of(struct dump_ctx *c)
{
	if (!c->objects)
		c->objects = calloc(1, sizeof(*c->objects));
	return c->objects;
}

static struct object_entry *entry_new(struct object_table *ot, Cpx__Object__Type type, uint64_t dev,
				      uint64_t ino)
{
	struct object_entry *e;
	Cpx__Object *o = msg_new(sizeof(*o), (void (*)(void *))cpx__object__init);

	if (!o || grow(&ot->entry, &ot->max, ot->n, sizeof(*ot->entry)) < 0) {
		free(o);
		return NULL;
	}
	o->id = OBJECT_ID_BASE + ot->n;
	o->type = type;
	o->ino = ino;
	e = &ot->entry[ot->n++];
	*e = (struct object_entry){.object = o, .dev = dev, .ino = ino, .source = -1, .copy = -1};
	return e;
}

/* The descriptor's position is the application's: what moves it needs a description of its own. */
static void take_source(struct object_entry *e, int dup)
{
	char link[48];
	struct stat st;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dup);
	if (fstat(dup, &st) < 0 || !lease_is_on(&st))
		e->source = open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (e->source >= 0 || (fcntl(dup, F_GETFL) & O_ACCMODE) == O_WRONLY)
		return;
	e->source = fcntl(dup, F_DUPFD_CLOEXEC, 0);
	e->is_borrowed_offset = true;
}

static int take_memfd_name(Cpx__Object *o, int fd)
{
	static const char prefix[] = "/memfd:", suffix[] = " (deleted)";
	char link[48], text[320] = "";
	size_t len;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, text, sizeof(text) - 1);
	len = n > 0 ? (size_t)n : 0;
	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
		return 0;
	if (len >= sizeof(prefix) + sizeof(suffix) - 2 &&
	    strcmp(text + len - (sizeof(suffix) - 1), suffix) == 0)
		len -= sizeof(suffix) - 1;
	return msg_set_bytes(&o->name, text + sizeof(prefix) - 1, len - (sizeof(prefix) - 1));
}

static void take_page_size(Cpx__Object *o, int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC)
		return;
	o->hugepage_shift = __builtin_ctzl(fs.f_bsize);
}

static int take_attributes(Cpx__Object *o, int fd, struct err *err)
{
	struct stat st;
	int seals;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "cannot examine shared memory");
	o->has_mode = true;
	o->mode = st.st_mode & 07777;
	o->uid = st.st_uid;
	o->gid = st.st_gid;
	o->mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	o->size = st.st_size;
	take_page_size(o, fd);
	if (o->type != CPX__OBJECT__TYPE__MEMFD)
		return 0;
	seals = fcntl(fd, F_GET_SEALS);
	o->seals = seals < 0 ? F_SEAL_SEAL : seals;
	return take_memfd_name(o, fd) < 0 ? err_nomem(err) : 0;
}

static int add_view(struct object_entry *e, const struct object_view *v)
{
	for (size_t i = 0; i < e->nviews; i++)
		if (!e->view[i].is_private && e->view[i].offset == v->offset &&
		    e->view[i].len >= v->len)
			return 0; /* seen through another task already */
	if (grow(&e->view, &e->maxviews, e->nviews, sizeof(*e->view)) < 0)
		return -ENOMEM;
	e->view[e->nviews++] = *v;
	return 0;
}

static int add_content(struct object_entry *e, int dup, const struct object_view *v,
		       struct err *err)
{
	int r = 0;

	if (dup >= 0 && e->source < 0) {
		take_source(e, dup);
		if (e->object->type != CPX__OBJECT__TYPE__SYSV) {
			r = take_attributes(e->object, dup, err);
		} else {
			take_page_size(e->object, dup);
		}
	}
	if (r == 0 && e->source < 0 && v->len && add_view(e, v) < 0)
		r = err_nomem(err);
	return r;
}

static int refuse_huge_segment(struct dump_ctx *c, const struct tracee *t,
			       const struct object_entry *e)
{
	char object[64];

	if (e->object->type != CPX__OBJECT__TYPE__SYSV || !e->object->hugepage_shift)
		return 0;
	snprintf(object, sizeof(object), "SysV segment %d", (int)e->ino);
	return refuse(c->refusals, t->pid, t->comm, object,
		      "cannot be checkpointed: it uses huge pages");
}

int objects_add_view(struct dump_ctx *c, struct tracee *t, Cpx__Object__Type type, uint64_t dev,
		     uint64_t ino, uint64_t size, int dup, const struct object_view *view,
		     Cpx__Object **ret, struct err *err)
{
	struct object_table *ot = table_of(c);
	struct object_entry *e = ot ? find(ot, type, dev, ino) : NULL;
	bool is_new = !e;
	int r;

	if (!ot || (!e && !(e = entry_new(ot, type, dev, ino))))
		return err_nomem(err);
	if (is_new)
		e->t = t;
	e->attached++;
	e->object->size = MAX(e->object->size, size);
	r = add_content(e, dup, view, err);
	if (r == 0 && is_new && type == CPX__OBJECT__TYPE__SYSV)
		r = sysvshm_dump(c, t, ino, e->object, err);
	if (r == 0 && is_new && refuse_huge_segment(c, t, e) < 0)
		r = err_nomem(err);
	if (r == 0)
		*ret = e->object;
	return r;
}

int objects_add(struct dump_ctx *c, struct tracee *t, Cpx__Object__Type type, uint64_t dev,
		uint64_t ino, uint64_t size, int dup, uint64_t addr, uint64_t addr_len,
		uint64_t addr_offset, Cpx__Object **ret, struct err *err)
{
	struct object_view view = {
		.pid = t->pid, .addr = addr, .len = addr_len, .offset = addr_offset};

	return objects_add_view(c, t, type, dev, ino, size, dup, &view, ret, err);
}

/* Where the next extent is, for a descriptor whose position must not be moved. 1: found; 0: there is
 * none; negative: the file system does not tell (tmpfs). */
static int next_extent(int fd, uint64_t *start, uint64_t *end)
{
	union {
		struct fiemap map;
		uint8_t room[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
	} q = {.map = {.fm_start = *start, .fm_length = *end - *start, .fm_extent_count = 1}};
	const struct fiemap_extent *e = q.map.fm_extents;

	if (ioctl(fd, FS_IOC_FIEMAP, &q.map) < 0)
		return -errno;
	if (!q.map.fm_mapped_extents)
		return 0;
	*start = ALIGN_DOWN(MAX(*start, (uint64_t)e->fe_logical), CPX_PAGE_SIZE);
	*end = MIN(*end, ALIGN_UP((uint64_t)(e->fe_logical + e->fe_length), CPX_PAGE_SIZE));
	return 1;
}

/* How much of it mappings show, from its beginning. */
static uint64_t shown(const struct object_entry *e)
{
	uint64_t at = 0, before;

	do {
		before = at;
		for (size_t i = 0; i < e->nviews; i++)
			if (!e->view[i].is_private && e->view[i].offset <= at)
				at = MAX(at, e->view[i].offset + e->view[i].len);
	} while (at > before);
	return at;
}

/* Open to write only, and we may not open it: the size is known, and nothing to read it by. Or open
 * to read, and so large that we would have to know where it is empty. */
static int refuse_unreadable(struct dump_ctx *c, const struct object_entry *e)
{
	uint64_t start = 0, end = e->object->size;

	if (e->source >= 0 && e->is_borrowed_offset && end > c->ghost_limit &&
	    next_extent(e->source, &start, &end) < 0)
		return refuse(c->refusals, e->t->pid, e->t->comm, "deleted file",
			      "cannot be checkpointed: it is larger than the limit of %llu bytes "
			      "(--ghost-limit raises it), and which of it are holes cannot be told",
			      (unsigned long long)c->ghost_limit);
	if (e->source >= 0 || !e->object->has_mode || shown(e) >= e->object->size)
		return 0;
	return refuse(c->refusals, e->t->pid, e->t->comm,
		      e->object->type == CPX__OBJECT__TYPE__MEMFD ? "memfd" : "deleted file",
		      "cannot be checkpointed: it holds %llu bytes, is open to write only, and cpx "
		      "may not open it to read (mode %o); root may",
		      (unsigned long long)e->object->size, e->object->mode);
}

int objects_complete(struct dump_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < objects_count(c); i++)
		r = c->objects->entry[i].object->type == CPX__OBJECT__TYPE__SYSV
			    ? sysvshm_complete(c, &c->objects->entry[i])
			    : refuse_unreadable(c, &c->objects->entry[i]);
	return r < 0 ? err_nomem(err) : 0;
}

size_t objects_count(const struct dump_ctx *c)
{
	return c->objects ? c->objects->n : 0;
}

Cpx__Object *objects_get(const struct dump_ctx *c, size_t i)
{
	return c->objects->entry[i].object;
}

/* ---- copying aside ---- */

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int write_at(int fd, const uint8_t *data, size_t len, uint64_t offset, struct err *err)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, offset);

		if (n < 0 && errno != EINTR)
			return err_sys(err, -errno, "cannot copy shared memory aside");
		if (n > 0) {
			data += n;
			len -= n;
			offset += n;
		}
	}
	return 0;
}

/* Writes the runs of pages that are not all zero. buf is padded with zeros to whole pages. */
static int store(int copy, const uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
	int r = 0;

	for (size_t at = 0; r == 0 && at < len;) {
		size_t end = at;

		while (end < len && !is_zero(buf + end, CPX_PAGE_SIZE))
			end += CPX_PAGE_SIZE;
		if (end > at)
			r = write_at(copy, buf + at, end - at, offset + at, err);
		at = MAX(end, at + CPX_PAGE_SIZE);
	}
	return r;
}

/* Reads [from, from + len) of a file, less at its end. */
static ssize_t read_at(int fd, uint8_t *buf, size_t len, uint64_t from)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, from + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return done || n == 0 ? (ssize_t)done : -errno;
		done += n;
	}
	return done;
}

/* Copies a range from a file (the object, or a task's memory) to offset of the copy; less if the
 * file ends. */
static int copy_range(int fd, uint64_t from, uint64_t len, uint64_t offset, int copy, uint8_t *buf,
		      uint64_t *ret_end, struct err *err)
{
	uint64_t left = len;

	while (left) {
		size_t want = MIN(left, STEP);
		ssize_t n = read_at(fd, buf, want, from);
		size_t padded;
		int r;

		if (n < 0)
			return err_sys(err, n, "cannot read shared memory");
		padded = ALIGN_UP((size_t)n, CPX_PAGE_SIZE);
		memset(buf + n, 0, padded - n);
		r = store(copy, buf, padded, offset, err);
		if (r < 0)
			return r;
		left -= n;
		from += n;
		offset += n;
		if ((size_t)n < want)
			break;
	}
	*ret_end = offset;
	return 0;
}

/* Finds the next populated part at or after *start. Where the file system does not know, all of it.
 */
static bool next_data(const struct object_entry *e, uint64_t *start, uint64_t *end)
{
	off_t data, hole;

	*end = e->object->size;
	if (*start >= *end)
		return false;
	if (e->is_borrowed_offset)
		return next_extent(e->source, start, end) != 0;
	data = lseek(e->source, *start, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO;
	hole = lseek(e->source, data, SEEK_HOLE);
	*start = ALIGN_DOWN((uint64_t)data, CPX_PAGE_SIZE);
	if (hole > data)
		*end = ALIGN_UP((uint64_t)hole, CPX_PAGE_SIZE);
	return true;
}

static int copy_from_source(struct object_entry *e, uint8_t *buf, struct err *err)
{
	uint64_t start = 0, end, done;
	int r = 0;

	for (; r == 0 && next_data(e, &start, &end); start = end)
		r = copy_range(e->source, start, end - start, start, e->copy, buf, &done, err);
	return r;
}

/* A page of a private file mapping that the task has changed: swapped, or present and not of a file
 * (Documentation/admin-guide/mm/pagemap.rst). */
static bool is_changed(uint64_t pagemap_entry)
{
	const uint64_t file = 1ULL << 61, swapped = 1ULL << 62, present = 1ULL << 63;

	return (pagemap_entry & swapped) || ((pagemap_entry & present) && !(pagemap_entry & file));
}

static int open_of(pid_t pid, const char *name, struct err *err)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_sys(err, -errno, "cannot open %s", path) : fd;
}

/* Up to len bytes from addr that are all changed, or all not. */
static uint64_t next_run(int pagemap, uint64_t addr, uint64_t len, bool *ret_changed)
{
	uint64_t entry[512], want = MIN(len / CPX_PAGE_SIZE, ARRAY_SIZE(entry)), n = 0;

	*ret_changed = true; /* what cannot be looked at */
	if (pread(pagemap, entry, want * sizeof(*entry), addr / CPX_PAGE_SIZE * sizeof(*entry)) !=
	    (ssize_t)(want * sizeof(*entry)))
		return len;
	*ret_changed = is_changed(entry[0]);
	while (n < want && is_changed(entry[n]) == *ret_changed)
		n++;
	return n * CPX_PAGE_SIZE;
}

/* Changed pages are stored with the memory of the task. What the file holds there is seen by nobody
 * (if another mapping shows it, it is taken from there). */
static int copy_private(const struct object_view *v, int mem, int copy, uint8_t *buf,
			uint64_t *ret_end, struct err *err)
{
	_cleanup_close_ int pagemap = open_of(v->pid, "pagemap", err);
	int r = pagemap < 0 ? pagemap : 0;
	bool changed;

	for (uint64_t at = 0, run; r == 0 && at < v->len; at += run) {
		run = next_run(pagemap, v->addr + at, v->len - at, &changed);
		if (changed)
			*ret_end = v->offset + at + run;
		else
			r = copy_range(mem, v->addr + at, run, v->offset + at, copy, buf, ret_end,
				       err);
		if (*ret_end < v->offset + at + run)
			break; /* behind the end of the file there is nothing */
	}
	return r;
}

static int copy_view(const struct object_view *v, int copy, uint8_t *buf, uint64_t *ret_end,
		     struct err *err)
{
	_cleanup_close_ int mem = open_of(v->pid, "mem", err);

	if (mem < 0)
		return mem;
	return v->is_private ? copy_private(v, mem, copy, buf, ret_end, err)
			     : copy_range(mem, v->addr, v->len, v->offset, copy, buf, ret_end, err);
}

/* The size of a file that cannot be opened is what its mappings can show. */
static int copy_from_views(struct object_entry *e, uint8_t *buf, struct err *err)
{
	bool is_file = e->object->type == CPX__OBJECT__TYPE__GHOST_FILE ||
		       e->object->type == CPX__OBJECT__TYPE__MEMFD;
	uint64_t size = 0;

	for (size_t i = 0; i < e->nviews; i++) {
		uint64_t end = e->view[i].offset;
		int r = copy_view(&e->view[i], e->copy, buf, &end, err);

		if (r < 0 && !(is_file && r == -EIO))
			return r;
		size = MAX(size, end);
	}
	if (is_file)
		e->object->size = size;
	return 0;
}

static int copy_object(struct object_entry *e, uint8_t *buf, struct err *err)
{
	int r;

	e->copy = memfd_create("cpx-aside", MFD_CLOEXEC);
	if (e->copy < 0 || ftruncate(e->copy, ALIGN_UP(e->object->size, CPX_PAGE_SIZE)) < 0)
		return err_sys(err, -errno, "cannot make room to copy shared memory aside");
	r = e->source >= 0 ? copy_from_source(e, buf, err) : copy_from_views(e, buf, err);
	if (e->source >= 0)
		close(TAKE_FD(e->source));
	return r;
}

int objects_copy(struct dump_ctx *c, struct err *err)
{
	_cleanup_free_ uint8_t *buf = NULL;
	int r = 0;

	if (!objects_count(c))
		return 0;
	buf = aligned_alloc(CPX_PAGE_SIZE, STEP + CPX_PAGE_SIZE);
	if (!buf)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && i < c->objects->n; i++)
		r = copy_object(&c->objects->entry[i], buf, err);
	return r;
}

static void entry_release(struct object_entry *e)
{
	if (e->source >= 0)
		close(e->source);
	if (e->copy >= 0)
		close(e->copy);
	free(e->view);
	cpx__object__free_unpacked(e->object, NULL);
}

void objects_release(struct dump_ctx *c)
{
	for (size_t i = 0; c->objects && i < c->objects->n; i++)
		entry_release(&c->objects->entry[i]);
	if (c->objects)
		free(c->objects->entry);
	free(c->objects);
	c->objects = NULL;
}
