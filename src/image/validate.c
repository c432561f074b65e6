/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * References from record to record, so that nothing inconsistent ever reaches the restore engine:
 * ids exist and are unique, tasks form a tree, mappings ascend, chunks lie in what they belong to.
 * Owns the id maps while they are built. Pure functions; n log n in the number of records.
 */
#include "image/reader.h"
#include "base/util.h"

/* What the architectures' register sets and address spaces must look like; plain data, so that an
 * image of any of them can be checked anywhere. */
static const struct machine {
	const char *arch;
	size_t gp_regs;
	uint64_t user_end; /* with the largest page tables */
} machines[] = {
	{"x86_64", 27 * 8, (1UL << 56) - CPX_PAGE_SIZE},
};

static int bad(struct err *err, const char *kind, uint32_t id, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s %u %s", kind, id, what);
}

/* ---- id maps ---- */

static int compare_ids(const void *a, const void *b)
{
	const struct id_entry *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int sort_ids(struct id_map *m, const char *kind, struct err *err)
{
	if (m->n)
		qsort(m->entry, m->n, sizeof(*m->entry), compare_ids);
	for (size_t i = 0; i < m->n; i++) {
		if (m->entry[i].id == 0)
			return bad(err, kind, 0, "has no id");
		if (i && m->entry[i].id == m->entry[i - 1].id)
			return bad(err, kind, m->entry[i].id, "is there twice");
	}
	return 0;
}

int id_map_build(struct id_map *m, void *const *msg, size_t n, size_t id_offset, const char *kind,
		 struct err *err)
{
	m->entry = calloc(n + 1, sizeof(*m->entry));
	if (!m->entry)
		return err_nomem(err);
	m->n = n;
	for (size_t i = 0; i < n; i++) {
		uint32_t id;

		memcpy(&id, (const uint8_t *)msg[i] + id_offset, sizeof(id));
		m->entry[i] = (struct id_entry){id, msg[i], i};
	}
	return sort_ids(m, kind, err);
}

const struct id_entry *id_map_find(const struct id_map *m, uint32_t id)
{
	struct id_entry key = {.id = id};

	return m->n ? bsearch(&key, m->entry, m->n, sizeof(key), compare_ids) : NULL;
}

void id_map_release(struct id_map *m)
{
	free(m->entry);
	*m = (struct id_map){0};
}

static void *find_msg(const struct image *im, enum image_map which, uint32_t id)
{
	const struct id_entry *e = id_map_find(&im->private->map[which], id);

	return e ? e->msg : NULL;
}

Cpx__Task *image_task(const struct image *im, uint32_t pid)
{
	return find_msg(im, MAP_TASKS, pid);
}

Cpx__Mm *image_mm(const struct image *im, uint32_t id)
{
	return find_msg(im, MAP_MMS, id);
}

Cpx__Object *image_object(const struct image *im, uint32_t id)
{
	return find_msg(im, MAP_OBJECTS, id);
}

Cpx__FdTable *image_fd_table(const struct image *im, uint32_t id)
{
	return find_msg(im, MAP_FD_TABLES, id);
}

Cpx__File *image_file(const struct image *im, uint32_t id)
{
	return find_msg(im, MAP_FILES, id);
}

static int build_maps(struct image *im, struct err *err)
{
	const struct {
		void *const *msg;
		size_t n, id_offset;
		const char *kind;
	} kinds[IMAGE_MAPS] = {
		[MAP_TASKS] = {(void **)im->task, im->ntasks, offsetof(Cpx__Task, pid), "task"},
		[MAP_MMS] = {(void **)im->mm, im->nmms, offsetof(Cpx__Mm, id), "Mm"},
		[MAP_OBJECTS] = {(void **)im->object, im->nobjects, offsetof(Cpx__Object, id),
				 "Object"},
		[MAP_FD_TABLES] = {(void **)im->fd_table, im->nfd_tables,
				   offsetof(Cpx__FdTable, id), "FdTable"},
		[MAP_FILES] = {(void **)im->file, im->nfiles, offsetof(Cpx__File, id), "File"},
	};
	int r = 0;

	for (int i = 0; i < IMAGE_MAPS && r == 0; i++)
		r = id_map_build(&im->private->map[i], kinds[i].msg, kinds[i].n, kinds[i].id_offset,
				 kinds[i].kind, err);
	for (size_t i = 0; i < im->nmms && r == 0; i++)
		if (image_object(im, im->mm[i]->id))
			r = bad(err, "Mm", im->mm[i]->id, "has the id of an Object");
	return r;
}

/* Every thread of the tree by its tid. */
static int build_tids(struct image *im, struct err *err)
{
	struct id_map *m = &im->private->tids;
	size_t n = 0;

	for (size_t i = 0; i < im->ntasks; i++)
		n += MAX(im->task[i]->n_thread, 1);
	m->entry = calloc(n + 1, sizeof(*m->entry));
	if (!m->entry)
		return err_nomem(err);
	for (size_t i = 0; i < im->ntasks; i++) {
		Cpx__Task *t = im->task[i];

		if (t->n_thread == 0)
			m->entry[m->n++] = (struct id_entry){t->pid, t, i};
		for (size_t j = 0; j < t->n_thread; j++)
			m->entry[m->n++] = (struct id_entry){t->thread[j]->tid, t, i};
	}
	return sort_ids(m, "thread", err);
}

/* ---- tasks ---- */

static int check_timers(const struct image *im, const Cpx__Task *t, struct err *err)
{
	for (size_t i = 0; i < t->n_posix_timer; i++) {
		uint32_t tid = t->posix_timer[i]->notify_tid;
		const struct id_entry *e = tid ? id_map_find(&im->private->tids, tid) : NULL;

		if (tid && (!e || e->msg != t))
			return bad(err, "task", t->pid,
				   "has a timer for a thread it does not have");
		if (i && t->posix_timer[i]->id <= t->posix_timer[i - 1]->id)
			return bad(err, "task", t->pid, "has timers out of order");
	}
	return 0;
}

static int check_signals(const Cpx__Task *t, struct err *err)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < t->signals->n_action; i++) {
		uint64_t bit = 1ULL << (t->signals->action[i]->signo - 1);

		if (seen & bit)
			return bad(err, "task", t->pid, "has two actions for one signal");
		seen |= bit;
	}
	return 0;
}

static int check_rlimits(const Cpx__Task *t, struct err *err)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < t->n_rlimit; i++) {
		const Cpx__Rlimit *l = t->rlimit[i];

		if (seen & 1ULL << l->resource || l->soft > l->hard)
			return bad(err, "task", t->pid, "has impossible resource limits");
		seen |= 1ULL << l->resource;
	}
	return 0;
}

static int check_thread(const struct machine *m, const Cpx__Task *t, size_t i, struct err *err)
{
	const Cpx__Thread *th = t->thread[i];

	if (th->exited)
		return i == 0 ? 0 : bad(err, "thread", th->tid, "has exited but leads no task");
	if (th->gp_regs.len != m->gp_regs)
		return bad(err, "thread", th->tid, "has registers of a wrong size");
	if (!th->signals || !th->memory || !th->creds || !th->sched || !th->flags)
		return bad(err, "thread", th->tid, "lacks attributes");
	return 0;
}

static int check_threads(const struct machine *m, const Cpx__Task *t, struct err *err)
{
	size_t live = 0;
	int r = 0;

	if (t->n_thread == 0 || t->thread[0]->tid != t->pid)
		return bad(err, "task", t->pid, "has no leader");
	for (size_t i = 0; i < t->n_thread && r == 0; i++) {
		r = check_thread(m, t, i, err);
		live += !t->thread[i]->exited;
	}
	if (r == 0 && live == 0)
		return bad(err, "task", t->pid, "has no live thread");
	return r;
}

static int check_zombie(const Cpx__Task *t, struct err *err)
{
	if (t->mm || t->fd_table || t->n_thread > 1 || (t->n_thread && t->thread[0]->tid != t->pid))
		return bad(err, "zombie", t->pid, "has what only a live task has");
	return 0;
}

static int check_live(const struct image *im, const struct machine *m, const Cpx__Task *t,
		      struct err *err)
{
	int r = check_threads(m, t, err);

	if (r < 0)
		return r;
	if (!t->fs || !t->signals || !t->flags)
		return bad(err, "task", t->pid, "lacks attributes");
	if (!image_mm(im, t->mm))
		return bad(err, "task", t->pid, "has an Mm that is not there");
	if (!image_fd_table(im, t->fd_table))
		return bad(err, "task", t->pid, "has an FdTable that is not there");
	r = check_signals(t, err);
	if (r < 0)
		return r;
	r = check_timers(im, t, err);
	return r < 0 ? r : check_rlimits(t, err);
}

static int check_parent(const struct image *im, const Cpx__Task *t, struct err *err)
{
	const Cpx__Task *parent = image_task(im, t->ppid);

	if ((t->ppid == 0) != (t->pid == im->info->root_pid))
		return bad(err, "task", t->pid, "is outside the tree");
	if (t->ppid == 0)
		return 0;
	if (!parent || parent->state == CPX__TASK__STATE__ZOMBIE)
		return bad(err, "task", t->pid, "has a parent that is not there");
	return 0;
}

/* Parents exist and there is one root; what is left to exclude is a cycle. Each task is walked
 * through once: level 0 not seen, 1 on the present path, 2 reaches the root. */
static int check_acyclic(const struct image *im, struct err *err)
{
	const struct id_map *m = &im->private->map[MAP_TASKS];
	_cleanup_free_ uint8_t *level = calloc(m->n + 1, 1);

	if (!level)
		return err_nomem(err);
	for (size_t i = 0; i < m->n; i++) {
		size_t at = i;

		while (level[at] == 0 && ((Cpx__Task *)m->entry[at].msg)->ppid) {
			level[at] = 1;
			at = id_map_find(m, ((Cpx__Task *)m->entry[at].msg)->ppid) - m->entry;
		}
		if (level[at] == 1)
			return bad(err, "task", m->entry[at].id, "is its own ancestor");
		level[at] = 2;
		for (at = i; level[at] == 1;) {
			level[at] = 2;
			at = id_map_find(m, ((Cpx__Task *)m->entry[at].msg)->ppid) - m->entry;
		}
	}
	return 0;
}

static int check_tasks(const struct image *im, const struct machine *m, struct err *err)
{
	if (!image_task(im, im->info->root_pid))
		return bad(err, "root task", im->info->root_pid, "is not there");
	for (size_t i = 0; i < im->ntasks; i++) {
		const Cpx__Task *t = im->task[i];
		int r = check_parent(im, t, err);

		if (r < 0)
			return r;
		r = t->state == CPX__TASK__STATE__ZOMBIE ? check_zombie(t, err)
							 : check_live(im, m, t, err);
		if (r < 0)
			return r;
	}
	return check_acyclic(im, err);
}

/* ---- memory ---- */

static bool is_private(const Cpx__Vma *v)
{
	return v->kind == CPX__VMA__KIND__ANON || v->kind == CPX__VMA__KIND__FILE_PRIVATE ||
	       v->kind == CPX__VMA__KIND__HUGETLB;
}

/* What a mapping of this kind refers to is there and of a fitting type. */
static bool has_backing(const struct image *im, const Cpx__Vma *v)
{
	const Cpx__Object *o = image_object(im, v->object);

	switch (v->kind) {
	case CPX__VMA__KIND__FILE_PRIVATE:
	case CPX__VMA__KIND__FILE_SHARED:
		return image_file(im, v->file) != NULL;
	case CPX__VMA__KIND__URING:
		return rings_fit(im, v);
	case CPX__VMA__KIND__SHM_ANON:
		return o && o->type == CPX__OBJECT__TYPE__SHM_ANON;
	case CPX__VMA__KIND__SYSV:
		return o && o->type == CPX__OBJECT__TYPE__SYSV;
	case CPX__VMA__KIND__HUGETLB_SHARED:
		return o != NULL;
	default:
		return v->file == 0 && v->object == 0;
	}
}

static int check_vma(const struct image *im, const struct machine *m, const Cpx__Mm *mm, size_t i,
		     struct err *err)
{
	const Cpx__Vma *v = mm->vma[i];
	uint64_t unused, unit = CPX_PAGE_SIZE;

	if (v->kind == CPX__VMA__KIND__HUGETLB || v->kind == CPX__VMA__KIND__HUGETLB_SHARED)
		unit = 1ULL << MAX(v->hugepage_shift, CPX_PAGE_SHIFT);
	if ((v->start | v->end) % unit || v->offset % CPX_PAGE_SIZE)
		return bad(err, "Mm", mm->id, "has a mapping that is not aligned");
	if (v->start >= v->end || v->end > m->user_end)
		return bad(err, "Mm", mm->id, "has a mapping outside the address space");
	if (i && v->start < mm->vma[i - 1]->end)
		return bad(err, "Mm", mm->id, "has mappings that overlap or do not ascend");
	if (__builtin_add_overflow(v->offset, v->end - v->start, &unused) || unused > INT64_MAX)
		return bad(err, "Mm", mm->id, "has a mapping with an impossible offset");
	if (!has_backing(im, v))
		return bad(err, "Mm", mm->id, "has a mapping of something that is not there");
	return 0;
}

/* The first mapping that ends after addr; n_vma if there is none. */
static size_t vma_after(const Cpx__Mm *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->n_vma;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (mm->vma[mid]->end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Is [start, end) covered without gaps by mappings (by private ones)? */
bool mm_covers(const Cpx__Mm *mm, uint64_t start, uint64_t end, bool by_private)
{
	for (size_t i = vma_after(mm, start); i < mm->n_vma && mm->vma[i]->start <= start; i++) {
		if (by_private && !is_private(mm->vma[i]))
			return false;
		start = mm->vma[i]->end;
		if (start >= end)
			return true;
	}
	return false;
}

/* The vdso and the vvar pages lie apart from the mappings. */
static bool is_free(const Cpx__Mm *mm, uint64_t start, uint64_t len, uint64_t user_end)
{
	size_t i = vma_after(mm, start);

	if (start % CPX_PAGE_SIZE || start >= user_end || len > user_end - start)
		return false;
	return i == mm->n_vma || mm->vma[i]->start >= start + len;
}

static int check_layout(const struct image *im, const struct machine *m, const Cpx__Mm *mm,
			struct err *err)
{
	const uint64_t addrs[] = {
		mm->start_code, mm->end_code,  mm->start_data,	mm->end_data,
		mm->start_brk,	mm->brk,       mm->start_stack, mm->arg_start,
		mm->arg_end,	mm->env_start, mm->env_end,
	};

	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++)
		if (addrs[i] > m->user_end)
			return bad(err, "Mm", mm->id, "has a bound outside the address space");
	if (mm->brk < mm->start_brk)
		return bad(err, "Mm", mm->id, "has its break below its start");
	if ((mm->vdso && !is_free(mm, mm->vdso, im->info->host->vdso_size, m->user_end)) ||
	    (mm->vvar && !is_free(mm, mm->vvar, im->info->host->vvar_size, m->user_end)))
		return bad(err, "Mm", mm->id, "has its vdso at an impossible place");
	for (size_t i = 0; i < mm->n_guard; i++) {
		const Cpx__Span *g = mm->guard[i];

		if ((g->start | g->end) % CPX_PAGE_SIZE || g->start >= g->end ||
		    !mm_covers(mm, g->start, g->end, false))
			return bad(err, "Mm", mm->id, "has guard pages outside its mappings");
	}
	return 0;
}

/* Parents come before their children: pages are inherited in this order. */
static int check_mm_refs(const struct image *im, size_t rank, struct err *err)
{
	const Cpx__Mm *mm = im->mm[rank];
	const struct id_entry *parent = id_map_find(&im->private->map[MAP_MMS], mm->parent_mm);
	const Cpx__Task *t = image_task(im, mm->pid);

	if (mm->parent_mm && (!parent || parent->rank >= rank))
		return bad(err, "Mm", mm->id, "does not come after its parent");
	if (!t || t->mm != mm->id)
		return bad(err, "Mm", mm->id, "is of no task");
	if (!rings_have_contexts(mm))
		return bad(err, "Mm", mm->id, "has rings of asynchronous I/O that cannot be");
	if (!image_file(im, mm->exe_file))
		return bad(err, "Mm", mm->id, "has a program file that is not there");
	return 0;
}

static int check_mms(const struct image *im, const struct machine *m, struct err *err)
{
	for (size_t i = 0; i < im->nmms; i++) {
		int r = check_mm_refs(im, i, err);

		for (size_t j = 0; j < im->mm[i]->n_vma && r == 0; j++)
			r = check_vma(im, m, im->mm[i], j, err);
		if (r == 0)
			r = check_layout(im, m, im->mm[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_objects(const struct image *im, struct err *err)
{
	for (size_t i = 0; i < im->nobjects; i++) {
		const Cpx__Object *o = im->object[i];

		if ((o->type == CPX__OBJECT__TYPE__SYSV) != (o->sysv != NULL))
			return bad(err, "Object", o->id, "is not what its type says");
	}
	return 0;
}

/* ---- descriptors ---- */

static int check_fd_tables(const struct image *im, struct err *err)
{
	for (size_t i = 0; i < im->nfd_tables; i++) {
		const Cpx__FdTable *t = im->fd_table[i];

		for (size_t j = 0; j < t->n_fd; j++) {
			if (j && t->fd[j]->fd <= t->fd[j - 1]->fd)
				return bad(err, "FdTable", t->id, "has descriptors out of order");
			if (!image_file(im, t->fd[j]->file))
				return bad(err, "FdTable", t->id, "has a File that is not there");
		}
	}
	return 0;
}

static bool has_one_body(const Cpx__File *f)
{
	return !!f->regular + !!f->directory + !!f->pipe + !!f->chardev + !!f->unix_socket +
		       !!f->terminal + !!f->memfd + !!f->path_only + !!f->eventfd +
		       !!f->timerfd + !!f->signalfd + !!f->epoll + !!f->inotify +
		       !!f->pidfd + !!f->pty_master + !!f->mqueue + !!f->proc_file +
		       !!f->netlink + !!f->uring + !!f->fanotify ==
	       1;
}

static int check_pipe(const Cpx__File *f, struct err *err)
{
	const Cpx__Pipe *p = f->pipe;
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n_packet_len; i++)
		sum += p->packet_len[i];
	if (p->n_packet_len && sum != p->data.len)
		return bad(err, "File", f->id, "has packets that are not its data");
	if (p->is_fifo && !p->path)
		return bad(err, "File", f->id, "is a FIFO without a path");
	return 0;
}

static int check_content(const struct image *im, const Cpx__File *f, struct err *err)
{
	const Cpx__Object *o;

	if (f->regular && f->regular->ghost) {
		o = image_object(im, f->regular->ghost);
		if (!o || o->type != CPX__OBJECT__TYPE__GHOST_FILE)
			return bad(err, "File", f->id, "is a deleted file without content");
	}
	if (f->pidfd && f->pidfd->pid && !id_map_find(&im->private->tids, f->pidfd->pid))
		return bad(err, "File", f->id, "is of a process that is not there");
	if (f->proc_file && !f->proc_file->dead &&
	    !id_map_find(&im->private->tids, f->proc_file->pid))
		return bad(err, "File", f->id, "is in /proc, of a process that is not there");
	for (size_t i = 0; f->epoll && i < f->epoll->n_item; i++)
		if (!image_file(im, f->epoll->item[i]->file))
			return bad(err, "File", f->id, "watches a File that is not there");
	if (f->memfd) {
		o = image_object(im, f->memfd->object);
		if (!o ||
		    (o->type != CPX__OBJECT__TYPE__MEMFD && o->type != CPX__OBJECT__TYPE__HUGETLB))
			return bad(err, "File", f->id, "is a memfd without content");
	}
	return 0;
}

/* A slave's master is there, and of the same pair. */
static int check_slave(const struct image *im, const Cpx__File *f, struct err *err)
{
	const Cpx__Terminal *t = f->terminal;
	const Cpx__File *master = t && t->master ? image_file(im, t->master) : NULL;

	if (t && t->master && (!master || !master->pty_master))
		return bad(err, "File", f->id, "is a pseudo-terminal without its master");
	if (master && master->pty_master->index != t->index)
		return bad(err, "File", f->id, "is a pseudo-terminal of another number");
	return 0;
}

static int check_locks(const Cpx__File *f, struct err *err)
{
	for (size_t i = 0; i < f->n_lock; i++)
		if (f->lock[i]->start > f->lock[i]->end)
			return bad(err, "File", f->id, "has an impossible lock");
	return 0;
}

static int check_files(const struct image *im, struct err *err)
{
	for (size_t i = 0; i < im->nfiles; i++) {
		const Cpx__File *f = im->file[i];
		int r;

		if (!has_one_body(f))
			return bad(err, "File", f->id, "is not of exactly one kind");
		r = f->pipe ? check_pipe(f, err) : check_content(im, f, err);
		if (r == 0)
			r = check_slave(im, f, err);
		if (r == 0)
			r = validate_external(f, err);
		if (r == 0)
			r = check_locks(f, err);
		if (r == 0 && !rings_are_sound(im, f))
			r = bad(err, "File", f->id, "is an io_uring that cannot be");
		if (r < 0)
			return r;
	}
	return 0;
}

struct socket_ino {
	uint64_t ino;
	const Cpx__File *file;
};

static int compare_inos(const void *a, const void *b)
{
	const struct socket_ino *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static const Cpx__UnixSocket *find_socket(const struct socket_ino *s, size_t n, uint64_t ino)
{
	struct socket_ino key = {.ino = ino}, *found;

	found = n ? bsearch(&key, s, n, sizeof(*s), compare_inos) : NULL;
	return found ? found->file->unix_socket : NULL;
}

/* A datagram socket may be connected to one that is not connected to it. */
static int check_peer(const struct socket_ino *s, size_t n, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket, *peer = find_socket(s, n, b->peer_ino);

	if (b->peer_ino && (!peer || peer->type != b->type ||
			    (b->type != 2 && (peer == b || peer->peer_ino != b->ino))))
		return bad(err, "File", f->id, "is a socket without its peer");
	if (b->peer_ino && (b->listening || b->unconnected))
		return bad(err, "File", f->id, "is a socket with a peer that it cannot have");
	if (b->accepted && (b->listening || b->unconnected || (peer && peer->accepted)))
		return bad(err, "File", f->id, "is a socket that nobody can have accepted");
	if ((b->accepted || b->listening) && (b->type == 2 || !b->name.len))
		return bad(err, "File", f->id, "is a listening socket without a name");
	return 0;
}

static int check_waiting(const struct socket_ino *s, size_t n, const Cpx__File *f, struct err *err)
{
	for (size_t i = 0; i < f->unix_socket->n_pending; i++) {
		const Cpx__UnixSocket *b = find_socket(s, n, f->unix_socket->pending[i]);

		if (!b || !f->unix_socket->listening || b->peer_ino || b->accepted ||
		    b->unconnected || b->listening || b->type != f->unix_socket->type)
			return bad(err, "File", f->id, "has a connection waiting that cannot be");
	}
	return 0;
}

static int check_messages(const struct image *im, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;

	for (size_t i = 0; i < b->n_message; i++)
		for (size_t k = 0; k < b->message[i]->n_file; k++)
			if (!image_file(im, b->message[i]->file[k]))
				return bad(err, "File", f->id,
					   "has a File in its queue that is not there");
	return 0;
}

/* Peers are there, and fit. */
static int check_sockets(const struct image *im, struct err *err)
{
	_cleanup_free_ struct socket_ino *s = calloc(im->nfiles + 1, sizeof(*s));
	size_t n = 0;
	int r = 0;

	if (!s)
		return err_nomem(err);
	for (size_t i = 0; i < im->nfiles; i++)
		if (im->file[i]->unix_socket)
			s[n++] = (struct socket_ino){im->file[i]->unix_socket->ino, im->file[i]};
	if (n)
		qsort(s, n, sizeof(*s), compare_inos);
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (i && s[i].ino == s[i - 1].ino)
			return bad(err, "File", s[i].file->id, "is a socket that is there twice");
		r = check_peer(s, n, s[i].file, err);
		if (r == 0)
			r = check_waiting(s, n, s[i].file, err);
		if (r == 0)
			r = check_messages(im, s[i].file, err);
	}
	return r;
}

/* ---- all records ---- */

static const struct machine *find_machine(const char *arch)
{
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (strcmp(machines[i].arch, arch) == 0)
			return &machines[i];
	return NULL;
}

int validate_records(struct image *im, struct err *err)
{
	const struct machine *m = find_machine(im->info->host->arch);
	int r;

	if (!m)
		return err_set(err, -EPROTONOSUPPORT,
			       "image is of architecture '%.32s', which this cpx does not know",
			       im->info->host->arch);
	r = build_maps(im, err);
	if (r < 0)
		return r;
	r = build_tids(im, err);
	if (r < 0)
		return r;
	r = check_tasks(im, m, err);
	if (r == 0)
		r = filters_check(im, err);
	if (r < 0)
		return r;
	r = check_mms(im, m, err);
	if (r < 0)
		return r;
	r = check_objects(im, err);
	if (r < 0)
		return r;
	r = check_fd_tables(im, err);
	if (r < 0)
		return r;
	r = check_files(im, err);
	if (r == 0)
		r = validate_ipc(im, err);
	return r < 0 ? r : check_sockets(im, err);
}
