/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Serving memory out of the image: userfaultfd(2), ioctl_userfaultfd(2).
 *
 * One thread does all of it, so an event is in the books before the next page is put anywhere. The
 * kernel holds a task that moves, drops or forks its memory until its event has been read, and refuses to fill
 * that memory meanwhile (-EAGAIN: mmap_changing, fs/userfaultfd.c): what is filled is
 * never filled by books that are out of date.
 *
 * A page that the image does not hold is answered with zeros, as the kernel itself would; one that it holds
 * only ever with its content.
 */
#include "engine/lazy.h"

#include "base/log.h"
#include "base/util.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define STEP	 (256UL << 10) /* filled between looks at what the tree wants */
#define FIRST	 (16UL << 10)  /* filled at once where a task waits */
#define RETRY_S	 1
#define SOON_MS	 1

/* What became of a page or a run: done or given up, or one of these. */
#define IS_CHANGING -EAGAIN
#define IS_GONE	    -ESRCH

/* ---- chunks ------------------------------------------------------------------------------------- */

static struct lazy_cached *oldest(struct lazy_server *s)
{
	struct lazy_cached *best = &s->cache[0];

	for (size_t i = 0; i < LAZY_CACHE; i++) {
		if (!s->cache[i].is_valid)
			return &s->cache[i];
		if (s->cache[i].used < best->used)
			best = &s->cache[i];
	}
	return best;
}

static int read_chunk(struct lazy_server *s, struct lazy_cached *c, uint32_t chunk, struct err *err)
{
	int r;

	if (!c->data)
		c->data = malloc(CHUNK_MAX);
	if (!c->data)
		return err_nomem(err);
	c->is_valid = false;
	r = image_read_chunk(&s->image->chunk[chunk], c->data, err);
	c->chunk = chunk;
	c->is_valid = r == 0;
	return r;
}

static int get_chunk(struct lazy_server *s, uint32_t chunk, const uint8_t **ret, struct err *err)
{
	struct lazy_cached *c = NULL;
	int r = 0;

	for (size_t i = 0; i < LAZY_CACHE && !c; i++)
		if (s->cache[i].is_valid && s->cache[i].chunk == chunk)
			c = &s->cache[i];
	if (!c) {
		c = oldest(s);
		r = read_chunk(s, c, chunk, err);
	}
	c->used = ++s->clock;
	*ret = c->data;
	return r;
}

/* ---- pages into a space --------------------------------------------------------------------------- */

static void wake(const struct lazy_space *sp, uint64_t addr)
{
	struct uffdio_range range = {addr, CPX_PAGE_SIZE};

	ioctl(sp->uffd, UFFDIO_WAKE, &range);
}

/* One call: bytes that are done with (not there any more, too), or -errno. */
static int64_t copy(const struct lazy_space *sp, const struct lazy_span *run, const uint8_t *data,
		    struct err *err)
{
	struct uffdio_copy c = {.dst = run->addr, .src = (uintptr_t)data, .len = run->len};

	if (ioctl(sp->uffd, UFFDIO_COPY, &c) == 0)
		return (int64_t)run->len;
	if (c.copy > 0)
		return c.copy;
	if (errno == EEXIST || errno == ENOENT || errno == EAGAIN)
		return -errno;
	if (errno == ESRCH || errno == ENOSPC) /* that was its name before Linux 4.13 */
		return IS_GONE;
	return err_sys(err, -errno, "cannot fill memory at %#llx", (unsigned long long)run->addr);
}

/* The kernel says so before it looks whether the mapping is changing: only what it says twice, with no event
 * between, is true. A run may also reach over what are two mappings by now. */
static int64_t copy_surely(const struct lazy_space *sp, struct lazy_span *run, const uint8_t *data,
			   struct err *err)
{
	int64_t n = copy(sp, run, data, err);

	if (n != -ENOENT)
		return n;
	run->len = CPX_PAGE_SIZE;
	n = copy(sp, run, data, err);
	return n == -ENOENT ? copy(sp, run, data, err) : n;
}

/* As much of a run as goes: 0, or what stands against it. */
static int fill_run(struct lazy_server *s, struct lazy_space *sp, struct lazy_span run, struct err *err)
{
	const uint8_t *data = NULL;
	int64_t n;
	int r = get_chunk(s, run.chunk, &data, err);

	if (r < 0)
		return r;
	n = copy_surely(sp, &run, data + run.from, err);
	if (n == -EEXIST || n == -ENOENT) {
		wake(sp, run.addr);
		n = CPX_PAGE_SIZE;
	}
	if (n < 0)
		return (int)n;
	lazy_done(sp, &run, (uint64_t)n);
	return 0;
}

static int zero_page(const struct lazy_space *sp, uint64_t addr)
{
	struct uffdio_zeropage z = {.range = {addr, CPX_PAGE_SIZE}};

	return ioctl(sp->uffd, UFFDIO_ZEROPAGE, &z) < 0 ? -errno : 0;
}

static int fill_zero(const struct lazy_space *sp, uint64_t addr, struct err *err)
{
	int r = zero_page(sp, addr);

	if (r == -ENOENT)
		r = zero_page(sp, addr);
	if (r == -EEXIST || r == -ENOENT) {
		wake(sp, addr);
		return 0;
	}
	if (r == -ESRCH || r == -ENOSPC)
		return IS_GONE;
	if (r == 0 || r == -EAGAIN)
		return r;
	return err_sys(err, r, "cannot fill memory at %#llx", (unsigned long long)addr);
}

/* ---- the end of a space ----------------------------------------------------------------------------- */

/* All is there: the kernel goes on without us. */
static void end_space(struct lazy_space *sp)
{
	lazy_space_end(sp);
	close(sp->uffd);
	sp->uffd = -1;
}

/* A mapping that does not exist is asked for, so it is told before: has the address space ended? */
static bool is_gone(const struct lazy_space *sp)
{
	struct uffdio_writeprotect w = {.range = {sp->table->span[0].addr, CPX_PAGE_SIZE}};

	return ioctl(sp->uffd, UFFDIO_WRITEPROTECT, &w) < 0 && errno == ESRCH;
}

/* ---- what the tree does ------------------------------------------------------------------------------ */

static int add_fault(struct lazy_server *s, uint32_t space, uint64_t addr, struct err *err)
{
	if (grow(&s->fault, &s->max_faults, s->nfaults, sizeof(*s->fault)) < 0)
		return err_nomem(err);
	s->fault[s->nfaults++] = (struct lazy_fault){space, ALIGN_DOWN(addr, CPX_PAGE_SIZE)};
	return 0;
}

/* Done again after a death: it must have happened once. */
static bool is_moved(const struct lazy_state *st, const struct lazy_space *sp)
{
	return sp->table->seq == st->seq;
}

static const struct lazy_space *find_fork(const struct lazy_state *st)
{
	for (uint32_t i = 0; i < st->nspaces; i++)
		if (st->space[i].state == LAZY_LIVE && st->space[i].seq == st->seq)
			return &st->space[i];
	return NULL;
}

static int on_fork(struct lazy_server *s, const struct lazy_space *parent, int uffd, struct err *err)
{
	struct lazy_space *child = NULL;
	int r = find_fork(s->st) ? 0 : lazy_fork(s->st, parent, uffd, &child, err);

	if (r == 0 && child)
		r = lazy_watch(s, uffd, (uint32_t)(child - s->st->space), err);
	return r;
}

static int on_message(struct lazy_server *s, uint32_t i, const struct uffd_msg *m, struct err *err)
{
	struct lazy_space *sp = &s->st->space[i];

	switch (m->event) {
	case UFFD_EVENT_PAGEFAULT:
		return add_fault(s, i, m->arg.pagefault.address, err);
	case UFFD_EVENT_FORK:
		return on_fork(s, sp, (int)m->arg.fork.ufd, err);
	case UFFD_EVENT_REMAP:
		return is_moved(s->st, sp) ? 0 :
					     lazy_move(s->st, sp, m->arg.remap.from,
						       m->arg.remap.to, m->arg.remap.len, err);
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		lazy_drop(sp, m->arg.remove.start, m->arg.remove.end);
		return 0;
	default:
		return 0;
	}
}

/* Again, if it could not be done at once or its reader died; nothing else is read before. */
static int heed(struct lazy_server *s, struct err *err)
{
	struct lazy_state *st = s->st;
	int r = st->msg.event ? on_message(s, st->msg_space, &st->msg, err) : 0;

	if (r == 0)
		__atomic_store_n(&st->msg.event, 0, __ATOMIC_RELEASE);
	return r;
}

/* The message is read to where the guard finds it: from then on nobody else has it. */
static int read_message(struct lazy_server *s, uint32_t i, struct err *err)
{
	struct lazy_state *st = s->st;
	int r = heed(s, err);

	if (r < 0)
		return r;
	st->msg_space = i;
	st->seq++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (read(st->space[i].uffd, &st->msg, sizeof(st->msg)) != sizeof(st->msg))
		return -EAGAIN;
	return heed(s, err);
}

static int read_messages(struct lazy_server *s, uint32_t i, struct err *err)
{
	int r = 0;

	while (r == 0 && s->st->space[i].state == LAZY_LIVE)
		r = read_message(s, i, err);
	return r == -EAGAIN ? 0 : r;
}

/* ---- filling --------------------------------------------------------------------------------------------- */

/* The page waited for, and what comes next; zeros if the image has no such page. */
static int answer(struct lazy_server *s, const struct lazy_fault *f, struct err *err)
{
	struct lazy_space *sp = &s->st->space[f->space];
	struct lazy_span run;
	int r;

	if (sp->state != LAZY_LIVE)
		return 0;
	lazy_find(sp, f->addr, FIRST, &run);
	r = run.len ? fill_run(s, sp, run, err) : fill_zero(sp, f->addr, err);
	if (r == IS_GONE)
		end_space(sp);
	return r == IS_GONE ? 0 : r;
}

static int answer_all(struct lazy_server *s, struct err *err)
{
	size_t kept = 0, i = 0;
	int r = 0;

	for (; i < s->nfaults && r == 0; i++) {
		struct lazy_fault f = s->fault[i];

		r = answer(s, &f, err);
		if (r == IS_CHANGING) {
			s->is_waiting = true;
			r = 0;
			s->fault[kept++] = f;
		} else if (r < 0) {
			s->fault[kept++] = f;
		}
	}
	memmove(s->fault + kept, s->fault + i, (s->nfaults - i) * sizeof(*s->fault));
	s->nfaults -= i - kept;
	return r;
}

static int step(struct lazy_server *s, struct lazy_space *sp, struct err *err)
{
	struct lazy_span run;
	int r;

	if (!sp->left || !lazy_next(sp, STEP, &run)) {
		end_space(sp);
		return 0;
	}
	r = fill_run(s, sp, run, err);
	if (r == IS_GONE)
		end_space(sp);
	return r == IS_GONE ? 0 : r;
}

/* Some more of the first space that can be filled. */
static int fill_some(struct lazy_server *s, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; i < s->st->nspaces; i++) {
		if (s->st->space[i].state != LAZY_LIVE)
			continue;
		r = step(s, &s->st->space[i], err);
		if (r != IS_CHANGING)
			return r;
		s->is_waiting = true;
	}
	return 0;
}

static bool is_all_done(const struct lazy_state *st)
{
	for (uint32_t i = 0; i < st->nspaces; i++)
		if (st->space[i].state == LAZY_LIVE)
			return false;
	return st->is_committed;
}

/* ---- the restore ------------------------------------------------------------------------------------------- */

static int attach(struct lazy_server *s, uint32_t mm, int uffd, struct err *err)
{
	struct lazy_state *st = s->st;

	for (uint32_t i = 0; i < st->nspaces; i++) {
		if (st->space[i].state != LAZY_WAITING || st->space[i].mm != mm)
			continue;
		st->space[i].uffd = uffd;
		st->space[i].state = LAZY_LIVE;
		return lazy_watch(s, uffd, i, err);
	}
	close(uffd);
	return err_set(err, -EINVAL, "nothing of memory %u is missing", mm);
}

static int commit(struct lazy_server *s, struct err *err)
{
	static const struct lazy_note done = {.what = NOTE_COMMITTED};
	int r;

	for (uint32_t i = 0; i < s->st->nspaces; i++)
		if (s->st->space[i].state == LAZY_WAITING)
			lazy_space_end(&s->st->space[i]);
	r = lazy_make_guard(s, err);
	if (r == 0)
		r = lazy_send(s->channel, &done, -1, err);
	if (r < 0)
		return r;
	s->st->is_committed = true;
	close(TAKE_FD(s->channel));
	return 0;
}

static int on_channel(struct lazy_server *s, struct err *err)
{
	struct lazy_note n;
	int fd = -1, r = lazy_receive(s->channel, &n, &fd, err);

	if (r < 0)
		return r;
	if (n.what == NOTE_SPACE)
		return attach(s, n.mm, fd, err);
	if (n.what == NOTE_COMMIT)
		return commit(s, err);
	if (grow(&s->task, &s->max_tasks, s->ntasks, sizeof(*s->task)) < 0)
		return err_nomem(err);
	s->task[s->ntasks++] = fd;
	return 0;
}

static void on_guard(struct lazy_server *s)
{
	waitpid(s->guard, NULL, 0);
	close(TAKE_FD(s->guard_pidfd));
}

/* ---- the loop ------------------------------------------------------------------------------------------------ */

static int look(struct lazy_server *s, int timeout_ms, struct err *err)
{
	struct epoll_event ev[64];
	int n = epoll_wait(s->epfd, ev, ARRAY_SIZE(ev), timeout_ms), r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		if (ev[i].data.u32 == LAZY_WATCH_CHANNEL)
			r = on_channel(s, err);
		else if (ev[i].data.u32 == LAZY_WATCH_GUARD)
			on_guard(s);
		else
			r = read_messages(s, ev[i].data.u32, err);
	}
	return r;
}

static int timeout_of(const struct lazy_server *s)
{
	if (s->retry)
		return RETRY_S * 1000;
	if (s->is_waiting)
		return SOON_MS;
	return s->st->is_committed ? 0 : -1;
}

static int turn(struct lazy_server *s, struct err *err)
{
	int r = look(s, timeout_of(s), err);

	if (s->st->is_committed && s->guard_pidfd < 0)
		lazy_make_guard(s, NULL); /* or next time */
	s->is_waiting = false;
	if (r < 0 || (s->retry && time(NULL) < s->retry))
		return r;
	r = answer_all(s, err);
	if (r == 0 && s->st->is_committed)
		r = fill_some(s, err);
	if (r == 0 && s->retry) {
		s->retry = 0;
		lazy_resume_tree(s);
	}
	return r;
}

/* While the image cannot be read nothing else tells that a space has gone. */
static void end_gone(struct lazy_server *s)
{
	for (uint32_t i = 0; i < s->st->nspaces; i++)
		if (s->st->space[i].state == LAZY_LIVE && is_gone(&s->st->space[i]))
			end_space(&s->st->space[i]);
}

int lazy_serve(struct lazy_server *s, struct err *err)
{
	while (!is_all_done(s->st)) {
		int r = turn(s, err);

		if (r < 0 && !s->st->is_committed)
			return r;
		if (r < 0) {
			s->retry = time(NULL) + RETRY_S;
			lazy_stop_tree(s, err);
			end_gone(s);
		}
	}
	s->st->is_done = true;
	return 0;
}

/* ---- after a death --------------------------------------------------------------------------------------------- */

/* Faults that it had read are not told again by themselves. */
static void wake_all(const struct lazy_space *sp)
{
	static const uint64_t top = 0x7ffffffff000UL;
	static const uint64_t lowest[] = {CPX_PAGE_SIZE, 64UL << 10}; /* vm.mmap_min_addr */

	for (size_t i = 0; i < ARRAY_SIZE(lowest); i++) {
		struct uffdio_range range = {lowest[i], top - lowest[i]};

		ioctl(sp->uffd, UFFDIO_WAKE, &range);
	}
}

void lazy_close_ended(struct lazy_server *s)
{
	for (uint32_t i = 0; i < s->st->nspaces; i++) {
		struct lazy_space *sp = &s->st->space[i];

		if (sp->state == LAZY_ENDED && sp->uffd >= 0) {
			close(sp->uffd);
			sp->uffd = -1;
		}
	}
}

int lazy_repair(struct lazy_server *s, struct err *err)
{
	struct lazy_state *st = s->st;
	int r = 0;

	s->nfaults = 0;
	for (uint32_t i = 0; i < st->nspaces; i++)
		if (st->space[i].state == LAZY_LIVE)
			lazy_space_recount(&st->space[i]);
	r = heed(s, err);
	for (uint32_t i = 0; i < st->nspaces && r == 0; i++)
		if (st->space[i].state == LAZY_LIVE) {
			r = lazy_watch(s, st->space[i].uffd, i, err);
			wake_all(&st->space[i]);
		}
	return r;
}
