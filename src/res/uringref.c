/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an io_uring refers to: registered buffers, files, an eventfd, and the descriptors under which
 * threads have registered the ring itself. Reads fdinfo, which shows buffers by address and files by
 * name only, and the eventfd not at all: so a file is the one that the task has open under this name,
 * and the eventfd the only one that it has. Where there is none or several the ring is refused.
 *
 * Cannot see: tags, the range of automatic places, which pages a buffer had if memory has been mapped
 * anew there since, whether the eventfd is for asynchronous results only.
 */
#include "res/uring.h"

#include "res/attr.h"

#include <sys/syscall.h>

#define SLOTS 16 /* IO_RINGFD_REG_MAX of io_uring/io_uring.h */

static int refuse_ring(struct uring_look *l, const char *why, struct err *err)
{
	l->is_refused = true;
	return files_refuse(l->c, l->p, "io_uring", "cannot be checkpointed: %s", why) < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- buffers ---- */

/* The line after "<key>:\t<number>"; *ret_n is the number. */
static const char *list_of(const char *info, const char *key, uint64_t *ret_n)
{
	char head[32];
	const char *s;

	snprintf(head, sizeof(head), "\n%s:\t", key);
	s = strstr(info, head);
	*ret_n = 0;
	if (!s || !proc_field_u64(info, key, 10, ret_n))
		return NULL;
	s = strchr(s + 1, '\n');
	return s ? s + 1 : NULL;
}

static const char *next_line(const char *line)
{
	line = strchr(line, '\n');
	return line ? line + 1 : "";
}

/* Has it memory there, all of it? */
static bool is_mapped(const Cpx__Mm *mm, uint64_t addr, uint64_t len)
{
	uint64_t end = addr + len;

	for (size_t i = 0; mm && i < mm->n_vma && addr < end; i++)
		if (mm->vma[i]->start <= addr && addr < mm->vma[i]->end)
			addr = mm->vma[i]->end;
	return addr >= end;
}

static int add_buffer(struct uring_look *l, uint64_t addr, uint64_t len, struct err *err)
{
	Cpx__UringBuffer *item = MSG_NEW(Cpx__UringBuffer, cpx__uring_buffer__init);

	if (!item || msg_append(&l->b->buffer, &l->b->n_buffer, item) < 0) {
		free(item);
		return err_nomem(err);
	}
	item->addr = addr;
	item->len = len;
	if (!len || is_mapped(attr_recall_mm(l->c, l->p->t->mm_owner), addr, len))
		return 0;
	return refuse_ring(l, "a registered buffer is not in the memory of the task", err);
}

static int read_buffers(struct uring_look *l, struct err *err)
{
	uint64_t n, i = 0;
	const char *line = list_of(l->info, "UserBufs", &n);
	int r = 0;

	for (; i < n && line && r == 0 && !l->is_refused; line = next_line(line), i++) {
		unsigned long long addr = 0, len = 0;
		unsigned at;

		if (sscanf(line, " %u: ", &at) != 1 || at != i)
			break;
		sscanf(line, " %u: %llx/%llu", &at, &addr, &len);
		r = add_buffer(l, addr, len, err);
	}
	if (r == 0 && i < n && !l->is_refused && ++l->c->npassing)
		return refuse_ring(l, "the kernel is at work on it", err);
	return r;
}

int uring_read_registered(struct uring_look *l, struct err *err)
{
	uint64_t n;

	list_of(l->info, "UserFiles", &n);
	l->b->file = calloc(n + 1, sizeof(*l->b->file));
	if (!l->b->file)
		return err_nomem(err);
	l->b->n_file = n;
	return read_buffers(l, err);
}

/* ---- ring descriptors ---- */

static int ask_slots(struct uring_look *l, size_t thread, unsigned first, unsigned n, int64_t *ret,
		     struct err *err)
{
	struct batch b = tracee_batch(l->p->t);
	int r;

	for (unsigned i = 0; i < n; i++)
		BATCH_CALL(&b, SYS_io_uring_enter, first + i, 0, 0, IORING_ENTER_REGISTERED_RING, 0,
			   0);
	r = tracee_thread_run(l->p->t, thread, &b, err);
	for (unsigned i = 0; i < n; i++)
		ret[i] = batch_ret(&b, i);
	return r;
}

static int add_slot(struct uring_look *l, pid_t tid, unsigned slot, struct err *err)
{
	Cpx__UringSlot *item = MSG_NEW(Cpx__UringSlot, cpx__uring_slot__init);

	if (!item || msg_append(&l->b->slot, &l->b->n_slot, item) < 0) {
		free(item);
		return err_nomem(err);
	}
	item->tid = tid;
	item->slot = slot;
	return 0;
}

/* A thread that never had to do with any ring says EINVAL, an empty place EBADF. */
static int read_slots_of(struct uring_look *l, size_t thread, struct err *err)
{
	int64_t ret[SLOTS];
	int r = ask_slots(l, thread, 0, 1, ret, err);

	if (r < 0 || ret[0] == -EINVAL)
		return r;
	r = ask_slots(l, thread, 1, SLOTS - 1, ret + 1, err);
	for (unsigned i = 0; i < SLOTS && r == 0; i++)
		if (ret[i] != -EBADF)
			r = add_slot(l, l->p->t->thread[thread].tid, i, err);
	return r;
}

int uring_read_slots(struct uring_look *l, struct err *err)
{
	const struct tracee *t = l->p->t;
	int r = 0;

	for (size_t i = 0; i < t->nthreads && r == 0 && !l->c->check_only; i++)
		if (!t->thread[i].is_exited)
			r = read_slots_of(l, i, err);
	return r;
}

/* ---- when all descriptors are known ---- */

static const Cpx__FdTable *table_of(const struct dump_ctx *c, const struct tracee *t)
{
	for (size_t i = 0; i < c->files->ntables; i++)
		if (c->files->table[i].t == t)
			return c->files->table[i].table;
	return NULL;
}

/* As seq_file_path() of fs/seq_file.c writes it. */
static void escape(const char *s, char *buf, size_t size)
{
	size_t n = 0;

	for (; *s && n + 5 < size; s++) {
		if (strchr(" \t\n\\", *s))
			n += snprintf(buf + n, size - n, "\\%03o", (unsigned char)*s);
		else
			buf[n++] = *s;
	}
	buf[n] = '\0';
}

static bool has_name(const struct dump_ctx *c, const struct tracee *t, uint32_t fd,
		     const char *name, size_t len)
{
	char file[48], link[4352], escaped[4 * sizeof(link)];
	ssize_t n;

	snprintf(file, sizeof(file), "%d/fd/%u", t->pid, fd);
	n = readlinkat(c->proc_fd, file, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	escape(link, escaped, sizeof(escaped));
	return strlen(escaped) == len && memcmp(escaped, name, len) == 0;
}

/* How many descriptions of the task are called so; *ret_id is one of them. */
static unsigned find_by_name(const struct dump_ctx *c, const struct tracee *t, const char *name,
			     size_t len, uint32_t *ret_id)
{
	const Cpx__FdTable *table = table_of(c, t);
	unsigned n = 0;

	for (size_t i = 0; table && i < table->n_fd; i++) {
		if (table->fd[i]->file == *ret_id || !has_name(c, t, table->fd[i]->fd, name, len))
			continue;
		*ret_id = table->fd[i]->file;
		n++;
	}
	return n;
}

static int refuse_file(struct dump_ctx *c, const Cpx__File *f, unsigned place, const char *name,
		       size_t len, const char *why, struct err *err)
{
	return files_refuse_entry(c, f, "io_uring",
				  "cannot be checkpointed: its registered file %u (%.*s) %s", place,
				  (int)MIN(len, (size_t)200), name, why) < 0
		       ? err_nomem(err)
		       : 0;
}

static int resolve_file(struct dump_ctx *c, Cpx__File *f, unsigned place, const char *name,
			size_t len, struct err *err)
{
	uint32_t id = 0;
	unsigned n = find_by_name(c, files_entry(c, f)->t, name, len, &id);
	const Cpx__File *target = id ? c->files->entry[id - 1]->file : NULL;

	if (place >= f->uring->n_file)
		return err_set(err, -EBADMSG, "fdinfo shows a registered file too many");
	if (n == 0)
		return refuse_file(c, f, place, name, len,
				   "is not open under any number of the task any more", err);
	if (n > 1)
		return refuse_file(c, f, place, name, len,
				   "is one of several that the task has open under this name, and "
				   "the kernel does not show which",
				   err);
	if (target->pidfd || target->uring)
		return refuse_file(c, f, place, name, len, "is of a kind that is not supported there",
				   err);
	f->uring->file[place] = id;
	return 0;
}

static int resolve_files(struct dump_ctx *c, Cpx__File *f, const char *info, struct err *err)
{
	uint64_t n;
	const char *line = list_of(info, "UserFiles", &n);
	unsigned place;
	int at = 0, r = 0;

	for (; r == 0 && line && sscanf(line, " %u: %n", &place, &at) == 1 && at;
	     line = next_line(line), at = 0) {
		size_t len = strcspn(line + at, "\n");

		if (strncmp(line + at, "<none>", len) != 0)
			r = resolve_file(c, f, place, line + at, len, err);
	}
	return r;
}

static uint32_t only_eventfd(const struct dump_ctx *c, const struct tracee *t)
{
	const Cpx__FdTable *table = table_of(c, t);
	uint32_t found = 0;

	for (size_t i = 0; table && i < table->n_fd; i++) {
		uint32_t id = table->fd[i]->file;

		if (!c->files->entry[id - 1]->file->eventfd || id == found)
			continue;
		if (found)
			return 0;
		found = id;
	}
	return found;
}

static int resolve_eventfd(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	if (!f->uring->eventfd)
		return 0;
	f->uring->eventfd = only_eventfd(c, files_entry(c, f)->t);
	if (f->uring->eventfd)
		return 0;
	return files_refuse_entry(c, f, "io_uring",
				  "cannot be checkpointed: it reports to an eventfd, and the task has "
				  "none or several: the kernel does not show which it is") < 0
		       ? err_nomem(err)
		       : 0;
}

static size_t count_rings(const struct dump_ctx *c, const struct tracee *t)
{
	size_t n = 0;

	for (size_t i = 0; i < c->files->n; i++)
		n += c->files->entry[i]->t == t && c->files->entry[i]->file->uring;
	return n;
}

static int check_slots(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	if (!f->uring->n_slot || count_rings(c, files_entry(c, f)->t) == 1)
		return 0;
	return files_refuse_entry(c, f, "io_uring",
				  "cannot be checkpointed: a thread has registered the descriptor "
				  "of a ring (IORING_REGISTER_RING_FDS) and there are several rings: "
				  "the kernel does not show which it is") < 0
		       ? err_nomem(err)
		       : 0;
}

static void resolve_maps(struct dump_ctx *c, const Cpx__File *f)
{
	const struct file_entry *e = files_entry(c, f);

	for (size_t i = 0; i < c->files->nuring_maps; i++) {
		struct uring_map *m = &c->files->uring_map[i];

		if (m->dev == e->dev && m->ino == e->ino)
			m->vma->file = f->id;
	}
}

static int read_names(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);
	_cleanup_close_ int dir = -1;
	struct proc_fdinfo info = {0};
	int r = proc_open(c->proc_fd, e->t->pid, e->tid, &dir, err);

	if (r == 0)
		r = proc_fdinfo(dir, e->fd, &info, err);
	if (r == 0)
		r = resolve_files(c, f, info.text, err);
	proc_fdinfo_release(&info);
	return r;
}

/* Its counters are brought up by a thread that has it mapped. */
static int check_map(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);

	if (uring_find_map(c, e->t->mm_owner, e->dev, e->ino))
		return 0;
	return files_refuse_entry(c, f, "io_uring",
				  "cannot be checkpointed: the first task that has it has not mapped "
				  "its rings") < 0
		       ? err_nomem(err)
		       : 0;
}

int uring_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	int r;

	resolve_maps(c, f);
	if (files_entry(c, f)->in_flight >= 0 || !f->uring->rings.len) /* refused */
		return 0;
	r = check_map(c, f, err);
	if (r == 0)
		r = uring_thread_complete(c, f, err);
	if (r == 0)
		r = resolve_eventfd(c, f, err);
	if (r == 0)
		r = check_slots(c, f, err);
	return r == 0 && f->uring->n_file ? read_names(c, f, err) : r;
}

static bool is_known_offset(uint64_t offset)
{
	return offset == IORING_OFF_SQ_RING || offset == IORING_OFF_CQ_RING ||
	       offset == IORING_OFF_SQES;
}

int uring_maps_complete(struct dump_ctx *c, struct err *err)
{
	for (size_t i = 0; i < c->files->nuring_maps; i++) {
		const struct uring_map *m = &c->files->uring_map[i];
		bool is_known = is_known_offset(m->vma->offset);
		char object[96];

		if (m->vma->file && is_known)
			continue;
		snprintf(object, sizeof(object), "mapping %llx-%llx (io_uring)",
			 (unsigned long long)m->vma->start, (unsigned long long)m->vma->end);
		if (attr_refuse(c, m->t, object, err, "cannot be checkpointed: %s",
				is_known ? "no task of the tree has its descriptor"
					 : "it is of buffers or of a part of the rings") < 0)
			return err->code;
	}
	return 0;
}
