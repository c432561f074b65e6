/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * epoll(7): what is registered (descriptor number, file, events, user data), busy polling. Reads
 * fdinfo; the kernel keeps a registration by file and number (fs/eventpoll.c), and the number may
 * be closed or lead to another file since, so the file is found by kcmp(2), KCMP_EPOLL_TFD.
 *
 * Each task makes its registrations again before it gets its descriptors: all files of the tree are
 * still there then, and any number is free for the moment. It must be the task and not cpx, because
 * a signalfd tells whoever registered it.
 *
 * An edge-triggered file that is ready is reported once more: nothing tells whether its last edge
 * was reported already. Refused: files that are only open outside of the tree, an epoll that a
 * process outside has too, and one-shot registrations which have fired, of files that may hang up
 * but are not ready now: only an event that is reported brings them into that state.
 */
#include "base/kabi.h"
#include "res/attr.h"
#include "res/files.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* EP_PRIVATE_BITS of fs/eventpoll.c: all that is left of a one-shot registration that has fired. */
#define PRIVATE_BITS ((uint32_t)(EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE))
#define ANY_EVENT                                                                                  \
	(EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND |   \
	 EPOLLRDHUP)
#define DEFAULT_WEIGHT 64 /* NAPI_POLL_WEIGHT: larger budgets need a capability */

static ProtobufCMessage *epoll_body(const Cpx__File *f)
{
	return f->epoll ? &f->epoll->base : NULL;
}

static bool epoll_match(const struct fd_probe *p)
{
	return anon_is(p, "[eventpoll]");
}

static bool has_fired(uint32_t events)
{
	return events & EPOLLONESHOT && !(events & ~PRIVATE_BITS);
}

/* These never hang up and have no errors, which a registration that waits for nothing reports. */
static bool never_hangs_up(const Cpx__File *f)
{
	return f->eventfd || f->timerfd || f->signalfd || f->epoll || f->inotify;
}

static bool is_ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = ANY_EVENT};

	return poll(&p, 1, 0) == 1;
}

/* ---- dump: whose file is it? ---- */

/* A registration to be found: the nth with this number. */
struct wanted {
	const struct proc_epoll_item *item;
	uint32_t nth;
	const struct file_entry *epoll;
};

static bool has_inode(const struct wanted *w, const struct file_entry *e)
{
	return e->fd >= 0 && e->ino == w->item->ino &&
	       e->dev == makedev(w->item->dev_major, w->item->dev_minor);
}

/* As kcmp(2) for one that has the inode: 0 equal, 1 less, 2 greater; or a negative errno. The kernel walks
 * through the registrations for each question; of a socket there is but one description. */
static int compare(const struct wanted *w, const struct file_entry *e)
{
	struct kcmp_epoll_slot slot = {.efd = w->epoll->fd, .tfd = w->item->fd, .toff = w->nth};
	int r;

	if (e->file->unix_socket || e->file->netlink)
		return 0;
	if (is_denied("kcmp"))
		return -EPERM;
	r = syscall(SYS_kcmp, e->tid, w->epoll->tid, KCMP_EPOLL_TFD, e->fd, &slot);
	return r < 0 ? -errno : r;
}

static int find_by_number(const struct dump_ctx *c, const struct wanted *w, struct file_entry **ret)
{
	int r = 0;

	for (size_t i = 0; i < c->files->ntables && r == 0; i++) {
		uint32_t id = files_at(c->files->table[i].table, w->item->fd);
		struct file_entry *e = id ? c->files->entry[id - 1] : NULL;

		if (!e || !has_inode(w, e))
			continue;
		r = compare(w, e);
		if (r == 0) {
			*ret = e;
			return 0;
		}
		r = MIN(r, 0);
	}
	return r;
}

/* Among those with the same inode and flags, which are in kcmp's order. */
static int find_in_group(const struct file_table *ft, const struct wanted *w, size_t low,
			 size_t high, struct file_entry **ret)
{
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int r = compare(w, ft->sorted[mid]);

		if (r < 0)
			return r;
		if (r == 0) {
			*ret = ft->sorted[mid];
			return 0;
		}
		if (r == 1)
			low = mid + 1;
		else
			high = mid;
	}
	return 0;
}

static int find_by_inode(const struct dump_ctx *c, const struct wanted *w, struct file_entry **ret)
{
	const struct file_table *ft = c->files;
	size_t end = 0;
	int r = 0;

	for (size_t i = 0; i < ft->nsorted && r == 0 && !*ret; i = MAX(end, i + 1)) {
		if (!has_inode(w, ft->sorted[i]))
			continue;
		for (end = i + 1; end < ft->nsorted && has_inode(w, ft->sorted[end]) &&
				  ft->sorted[end]->file->flags == ft->sorted[i]->file->flags;)
			end++;
		r = find_in_group(ft, w, i, end, ret);
	}
	return r;
}

/* ---- dump ---- */

static int refuse_item(struct dump_ctx *c, Cpx__File *f, uint32_t fd, const char *why,
		       struct err *err)
{
	return files_refuse_entry(c, f, "epoll",
				  "cannot be checkpointed: it watches descriptor %u, %s", fd,
				  why) < 0
		       ? err_nomem(err)
		       : 0;
}

static int check_fired(struct dump_ctx *c, Cpx__File *f, const struct file_entry *e, uint32_t fd,
		       struct err *err)
{
	_cleanup_close_ int dup = -1;

	if (never_hangs_up(e->file))
		return 0;
	dup = syscall(SYS_pidfd_getfd, e->t->pidfd, e->fd, 0);
	if (dup >= 0 && is_ready(dup))
		return 0;
	return refuse_item(
		c, f, fd,
		"whose one-shot event has been reported and which is not ready now: that "
		"state cannot be made again; try again when the task has answered",
		err);
}

static int add_item(Cpx__Epoll *b, const struct proc_epoll_item *item, uint32_t file,
		    struct err *err)
{
	Cpx__EpollItem *new = MSG_NEW(Cpx__EpollItem, cpx__epoll_item__init);

	if (!new || msg_append(&b->item, &b->n_item, new) < 0) {
		free(new);
		return err_nomem(err);
	}
	new->fd = item->fd;
	new->file = file;
	new->events = item->events;
	new->data = item->data;
	return 0;
}

/* -EPERM (not in err) when kcmp(2) is denied. */
static int resolve(struct dump_ctx *c, Cpx__File *f, const struct wanted *w, struct err *err)
{
	struct file_entry *e = NULL;
	int r = find_by_number(c, w, &e);

	if (r == 0 && !e)
		r = find_by_inode(c, w, &e);
	if (r < 0)
		return r == -EPERM ? r : err_sys(err, r, "cannot find its file %u", w->item->fd);
	if (!e)
		return refuse_item(
			c, f, w->item->fd,
			"whose file is not open in the tree any more but still somewhere", err);
	r = has_fired(w->item->events) ? check_fired(c, f, e, w->item->fd, err) : 0;
	return r < 0 ? r : add_item(f->epoll, w->item, e->file->id, err);
}

/* How many with the same number come before each. */
static int count_numbers(const struct proc_epoll_item *item, size_t n, uint32_t *nth)
{
	uint32_t *seen, top = 0;

	for (size_t i = 0; i < n; i++)
		top = MAX(top, item[i].fd);
	seen = calloc((size_t)top + 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		nth[i] = seen[item[i].fd]++;
	free(seen);
	return 0;
}

/* Those that have fired come first: see epoll_install(). */
static int resolve_all(struct dump_ctx *c, Cpx__File *f, const struct proc_epoll_item *item,
		       size_t n, struct err *err)
{
	_cleanup_free_ uint32_t *nth = malloc((n + 1) * sizeof(*nth));
	const struct file_entry *epoll = files_entry(c, f);
	int r = nth ? count_numbers(item, n, nth) : -ENOMEM;

	if (r < 0)
		return err_nomem(err);
	for (int fired = 1; fired >= 0; fired--)
		for (size_t i = 0; i < n && r == 0; i++)
			if (has_fired(item[i].events) == fired)
				r = resolve(c, f, &(struct wanted){&item[i], nth[i], epoll}, err);
	return r;
}

static int epoll_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);
	_cleanup_free_ struct proc_epoll_item *item = NULL;
	_cleanup_close_ int dir = -1;
	struct proc_fdinfo info = {0};
	size_t n = 0;
	int r = proc_open(c->proc_fd, e->t->pid, e->tid, &dir, err);

	if (r == 0)
		r = proc_fdinfo(dir, e->fd, &info, err);
	if (r == 0 && (r = proc_epoll_items(info.text, &item, &n)) < 0)
		err_sys(err, r, "cannot read what it watches");
	if (r == 0)
		r = resolve_all(c, f, item, n, err);
	proc_fdinfo_release(&info);
	if (r != -EPERM)
		return r;
	r = files_refuse_entry(c, f, "epoll",
			       "cannot be checkpointed: which files it watches only kcmp(2) tells, "
			       "which is denied");
	return r < 0 ? err_nomem(err) : 0;
}

static int epoll_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct epoll_params params = {0};

	f->epoll = MSG_NEW(Cpx__Epoll, cpx__epoll__init);
	if (!f->epoll)
		return err_nomem(err);
	files_watch_same(c);
	if (ioctl(p->dup, EPIOCGPARAMS, &params) < 0) /* before Linux 6.9 there are none */
		return 0;
	f->epoll->busy_poll_us = params.busy_poll_usecs;
	f->epoll->busy_poll_budget = params.busy_poll_budget;
	f->epoll->prefer_busy_poll = params.prefer_busy_poll;
	return 0;
}

/* ---- restore ---- */

static bool is_outer_terminal(const Cpx__File *f)
{
	return f->terminal && !pty_is_slave(f->terminal);
}

static const char *why_unrestorable(struct restore_ctx *c, const Cpx__Epoll *b)
{
	if (b->busy_poll_budget > DEFAULT_WEIGHT && !attr_can_globally(c, CAP_NET_ADMIN))
		return "its busy polling needs cap_net_admin; restore as root";
	for (size_t i = 0; i < b->n_item; i++) {
		if (b->item[i]->events & EPOLLWAKEUP && !attr_can_globally(c, CAP_BLOCK_SUSPEND))
			return "EPOLLWAKEUP needs cap_block_suspend; restore as root";
		if (is_outer_terminal(image_file(c->image, b->item[i]->file)) && c->tty_fd < 0)
			return "it watches the terminal, and there is none here; restore in the "
			       "foreground";
	}
	return NULL;
}

static int epoll_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const char *why = why_unrestorable(c, f->epoll);

	return why ? files_refuse_restore(c, f, "epoll", "cannot be restored: %s", why) : 0;
}

static int set_params(int fd, const Cpx__Epoll *b)
{
	struct epoll_params params = {
		.busy_poll_usecs = b->busy_poll_us,
		.busy_poll_budget = b->busy_poll_budget,
		.prefer_busy_poll = b->prefer_busy_poll,
	};

	if (!b->busy_poll_us && !b->busy_poll_budget && !b->prefer_busy_poll)
		return 0;
	return ioctl(fd, EPIOCSPARAMS, &params);
}

static int epoll_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd >= 0 && set_params(fd, f->epoll) < 0) {
		int r = err_sys(err, -errno, "cannot be given its busy polling");

		close(fd);
		return r;
	}
	return anon_finish(c, f, fd, ret_fd, err);
}

int epoll_fd_base(const Cpx__File *f, uint32_t base)
{
	for (size_t i = 0; f->epoll && i < f->epoll->n_item; i++)
		base = MAX(base, f->epoll->item[i]->fd + 1);
	return base;
}

/*
 * One that has fired is made ready for anything and let fire again; nothing else is registered yet
 * that this could report. Where that cannot be, it waits for nothing but errors.
 */
static void add_fired(struct batch *b, int epoll, const Cpx__EpollItem *item,
		      struct epoll_event *ev, bool fires)
{
	uint64_t out = batch_out(b, sizeof(*ev));

	if (fires)
		ev->events |= ANY_EVENT;
	BATCH_CALL(b, SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, item->fd, batch_in(b, ev, sizeof(*ev)));
	if (fires)
		BATCH_CALL(b, SYS_epoll_wait, epoll, out, 1, 0);
}

/* We have no pidfd of the tree's own processes here. */
static bool can_fire(const struct restore_ctx *c, const Cpx__EpollItem *item, int target)
{
	const Cpx__PidFd *b = image_file(c->image, item->file)->pidfd;
	const Cpx__Task *task = b ? image_task(c->image, b->pid) : NULL;

	return b && b->pid ? task && task->state == CPX__TASK__STATE__ZOMBIE : is_ready(target);
}

static int install_item(struct restore_ctx *c, const Cpx__File *f, const Cpx__EpollItem *item,
			struct batch *b, struct err *err)
{
	struct epoll_event ev = {.events = item->events, .data.u64 = item->data};
	int epoll = files_fd(c, f->id), target = files_fd(c, item->file);

	if (epoll < 0 || target < 0 || item->fd >= (uint32_t)c->fd_base)
		return err_set(err, -EBADMSG, "an epoll watches what is not there");
	BATCH_CALL(b, SYS_dup3, target, item->fd, O_CLOEXEC);
	if (has_fired(item->events))
		add_fired(b, epoll, item, &ev, can_fire(c, item, target));
	else
		BATCH_CALL(b, SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, item->fd,
			   batch_in(b, &ev, sizeof(ev)));
	return 0;
}

/* Whether the first task that has it has this table. */
static bool is_installed_with(const struct restore_ctx *c, size_t index, const Cpx__FdTable *table)
{
	const Cpx__Task *task = image_task(c->image, c->file_holder[index]);

	return task && task->fd_table == table->id;
}

bool epoll_needs(const struct restore_ctx *c, const Cpx__FdTable *table, const Cpx__File *f)
{
	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__Epoll *b = c->image->file[i]->epoll;

		for (size_t k = 0; b && k < b->n_item; k++)
			if (b->item[k]->file == f->id && is_installed_with(c, i, table))
				return true;
	}
	return false;
}

int epoll_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, size_t *done,
		  struct err *err)
{
	size_t skip = *done;
	int r = 0;

	for (size_t i = 0; i < c->image->nfiles && r == 0; i++) {
		const Cpx__File *f = c->image->file[i];

		if (!f->epoll || !is_installed_with(c, i, table))
			continue;
		for (; skip < f->epoll->n_item && r == 0; skip++, (*done)++) {
			if (batch_is_tight(b, 3, 64))
				return 1;
			r = install_item(c, f, f->epoll->item[skip], b, err);
		}
		skip -= MIN(skip, f->epoll->n_item);
	}
	return r;
}

const struct file_ops epoll_file_ops = {
	.name = "epoll",
	.body = epoll_body,
	.match = epoll_match,
	.dump = epoll_dump,
	.complete = epoll_complete,
	.check = epoll_check,
	.open = epoll_open,
};
