/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inotify(7): watches with their numbers, masks and paths. Reads fdinfo, which shows inodes and
 * file handles; the path comes from open_by_handle_at(2) (cap_dac_read_search) or is looked for
 * where the tree is: working directories, open directories, what is in them, what they are in
 * (which a watch for IN_OPEN sees).
 *
 * Numbers are given out ascending, so those between are taken and given back. Refused: events that
 * have not been read (reading is all that can be done to them), files without a name, one that a
 * process outside of the tree has too. Not kept: which number comes next, when the last one has
 * been given back; what happens to the files until the tree runs again.
 */
#include "res/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#define WD_MAX (1U << 20) /* more would take seconds */

static ProtobufCMessage *inotify_body(const Cpx__File *f)
{
	return f->inotify ? &f->inotify->base : NULL;
}

static bool inotify_match(const struct fd_probe *p)
{
	return anon_is(p, "inotify");
}

/* ---- dump: paths ---- */

/* What is looked for, and the path when it is found. */
struct quarry {
	const struct proc_inotify_watch *watch;
	char path[PATH_MAX];
	struct stat st;
};

static bool is_it(struct quarry *q, const char *path)
{
	const struct proc_inotify_watch *w = q->watch;

	if (lstat(path, &q->st) < 0 || q->st.st_ino != w->ino ||
	    q->st.st_dev != makedev(w->dev_major, w->dev_minor))
		return false;
	snprintf(q->path, sizeof(q->path), "%s", path);
	return true;
}

static int open_handle(const struct proc_inotify_watch *w, const char *mountpoint)
{
	_cleanup_close_ int mount_fd = open(mountpoint, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	union {
		struct file_handle h;
		uint8_t room[sizeof(struct file_handle) + sizeof(w->handle)];
	} u = {.h = {.handle_bytes = w->handle_len, .handle_type = w->handle_type}};

	if (mount_fd < 0)
		return -1;
	memcpy(u.h.f_handle, w->handle, w->handle_len);
	return open_by_handle_at(mount_fd, &u.h, O_PATH | O_CLOEXEC);
}

static bool find_by_handle(struct dump_ctx *c, const struct proc_mounts *m, struct quarry *q)
{
	for (size_t i = 0; i < m->n && q->watch->handle_len; i++) {
		_cleanup_close_ int fd = -1;
		char link[48], path[PATH_MAX];
		ssize_t n;

		if (m->mount[i].dev_major != q->watch->dev_major ||
		    m->mount[i].dev_minor != q->watch->dev_minor)
			continue;
		fd = open_handle(q->watch, m->mount[i].mountpoint);
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = fd < 0 ? -1 : readlink(link, path, sizeof(path) - 1);
		if (n > 0 && (path[n] = '\0', is_it(q, path)))
			return true;
	}
	return false;
}

static bool find_inside(struct quarry *q, const char *directory)
{
	_cleanup_closedir_ DIR *d = opendir(directory);
	char path[PATH_MAX];
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, "..") && e->d_ino == q->watch->ino &&
		    (size_t)snprintf(path, sizeof(path), "%s/%s", directory, e->d_name) <
			    sizeof(path) &&
		    is_it(q, path))
			return true;
	return false;
}

/* The path, what is in it, and what it is in. */
static bool find_around(struct quarry *q, int dir, const char *link)
{
	char path[PATH_MAX], *slash;

	if (proc_link(dir, link, path, sizeof(path), NULL) < 0 || path[0] != '/')
		return false;
	if (find_inside(q, path))
		return true;
	do {
		if (is_it(q, path))
			return true;
		slash = strrchr(path, '/');
		*slash = '\0';
	} while (path[0]);
	return is_it(q, "/");
}

static bool find_at_task(struct dump_ctx *c, const struct tracee *t, struct quarry *q)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ int *fd = NULL;
	bool is_found;
	size_t n = 0;

	if (t->is_zombie || proc_open(c->proc_fd, t->pid, 0, &dir, NULL) < 0)
		return false;
	is_found = find_around(q, dir, "cwd");
	if (!is_found && proc_fds(dir, &fd, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n && !is_found; i++) {
		char name[32];

		snprintf(name, sizeof(name), "fd/%d", fd[i]);
		is_found = find_around(q, dir, name);
	}
	return is_found;
}

static bool find_path(struct dump_ctx *c, const struct proc_mounts *m, struct quarry *q)
{
	if (!is_denied("open_by_handle_at") && find_by_handle(c, m, q))
		return true;
	for (size_t i = 0; c->tree && i < c->tree->n; i++)
		if (find_at_task(c, c->tree->task[i], q))
			return true;
	return false;
}

bool watched_path(struct dump_ctx *c, const struct proc_inotify_watch *w, char *path, size_t size,
		  struct stat *st)
{
	_cleanup_free_ struct quarry *q = calloc(1, sizeof(*q));
	_cleanup_close_ int dir = -1;
	struct proc_mounts mounts = {0};
	bool is_found;

	if (!q || proc_open(c->proc_fd, getpid(), 0, &dir, NULL) < 0 ||
	    proc_mounts(dir, &mounts, NULL) < 0)
		return false;
	q->watch = w;
	is_found = find_path(c, &mounts, q);
	proc_mounts_release(&mounts);
	if (is_found)
		snprintf(path, size, "%s", q->path);
	*st = q->st;
	return is_found;
}

/* ---- dump ---- */

static int add_watch(Cpx__Inotify *b, const struct quarry *q, struct err *err)
{
	Cpx__InotifyWatch *w = MSG_NEW(Cpx__InotifyWatch, cpx__inotify_watch__init);

	if (!w || msg_append(&b->watch, &b->n_watch, w) < 0) {
		free(w);
		return err_nomem(err);
	}
	w->wd = q->watch->wd;
	w->mask = q->watch->mask;
	return path_record(q->path, &q->st, &w->path, err);
}

static int dump_watch(struct dump_ctx *c, const struct fd_probe *p, const struct proc_mounts *m,
		      const struct proc_inotify_watch *watch, Cpx__Inotify *b, struct err *err)
{
	struct quarry q = {.watch = watch};

	if (watch->wd > WD_MAX)
		return files_refuse(c, p, "inotify",
				    "cannot be checkpointed: watch number %u is too high to be "
				    "given again",
				    watch->wd);
	if (find_path(c, m, &q))
		return add_watch(b, &q, err);
	return files_refuse(c, p, "inotify",
			    "cannot be checkpointed: the path of watch %u (inode %llu of device "
			    "%u:%u) cannot be found; root may find it",
			    watch->wd, (unsigned long long)watch->ino, watch->dev_major,
			    watch->dev_minor);
}

static int compare_watches(const void *a, const void *b)
{
	const struct proc_inotify_watch *x = a, *y = b;

	return x->wd < y->wd ? -1 : x->wd > y->wd;
}

static int dump_watches(struct dump_ctx *c, const struct fd_probe *p, const char *info,
			Cpx__Inotify *b, struct err *err)
{
	_cleanup_free_ struct proc_inotify_watch *watch = NULL;
	_cleanup_close_ int dir = -1;
	struct proc_mounts mounts = {0};
	size_t n = 0;
	int r = proc_inotify_watches(info, &watch, &n);

	if (r < 0)
		return err_sys(err, r, "cannot read what it watches");
	r = proc_open(c->proc_fd, getpid(), 0, &dir, err);
	if (r == 0)
		r = proc_mounts(dir, &mounts, err);
	if (n)
		qsort(watch, n, sizeof(*watch), compare_watches);
	for (size_t i = 0; i < n && r == 0; i++)
		r = dump_watch(c, p, &mounts, &watch[i], b, err);
	proc_mounts_release(&mounts);
	return r;
}

static int inotify_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct proc_fdinfo info = {0};
	int queued = 0, r;

	f->inotify = MSG_NEW(Cpx__Inotify, cpx__inotify__init);
	if (!f->inotify)
		return err_nomem(err);
	files_watch_same(c);
	if (ioctl(p->dup, FIONREAD, &queued) < 0)
		return err_sys(err, -errno, "cannot tell whether it holds events");
	if (queued)
		return files_refuse(c, p, "inotify",
				    "cannot be checkpointed: it holds events that were not read "
				    "(%d bytes); try again when the task has read them",
				    queued);
	r = anon_info(c, p, &info, err);
	if (r == 0)
		r = dump_watches(c, p, info.text, f->inotify, err);
	proc_fdinfo_release(&info);
	return r;
}

/* ---- restore ---- */

static int inotify_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < f->inotify->n_watch && r == 0; i++) {
		const Cpx__InotifyWatch *w = f->inotify->watch[i];

		if (i && w->wd <= f->inotify->watch[i - 1]->wd)
			return err_set(err, -EBADMSG, "inotify watches are out of order");
		r = path_check(c, w->path, w->path->mode & S_IFMT,
			       S_ISLNK(w->path->mode) ? O_PATH : O_RDONLY, "watched file", err);
	}
	return r;
}

/* Each watch that is taken away leaves an event. */
static void drain(int fd)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

static int make_watch(int fd, const Cpx__InotifyWatch *w, struct err *err)
{
	uint32_t mask = w->mask | IN_DONT_FOLLOW | IN_MASK_CREATE;
	char path[PATH_MAX];
	int r = path_text(&w->path->path, path, sizeof(path), err), wd = -1;

	if (r < 0)
		return r;
	for (unsigned n = 1; (wd = inotify_add_watch(fd, path, mask)) >= 0; n++) {
		if (wd >= (int)w->wd)
			break;
		inotify_rm_watch(fd, wd);
		if (n % 1024 == 0)
			drain(fd);
	}
	if (wd < 0)
		return err_sys(err, -errno, "cannot watch '%s'", path);
	return wd == (int)w->wd ? 0 : err_set(err, -EBADMSG, "watch %u has passed", w->wd);
}

static int inotify_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), r = 0;

	for (size_t i = 0; fd >= 0 && i < f->inotify->n_watch && r == 0; i++) {
		r = make_watch(fd, f->inotify->watch[i], err);
		drain(fd);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	if (fd < 0)
		return err_sys(err, -errno, "cannot be made");
	fd = fd_raise(c, fd, err);
	*ret_fd = MAX(fd, -1);
	return MIN(fd, 0);
}

/* Events of the restore itself, which opens files, are not for the task. */
static int inotify_settle(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
			  struct batch *b, struct err *err)
{
	int ours = c->file_fd[files_index(c, f)];

	if (c->file_holder[files_index(c, f)] != task->pid)
		return 0;
	drain(ours);
	if (fcntl(ours, F_SETFL, (int)f->flags & (O_APPEND | O_NONBLOCK | O_NOATIME)) < 0)
		return err_sys(err, -errno, "fd %d: cannot be given its flags", fd);
	return 0;
}

const struct file_ops inotify_file_ops = {
	.name = "inotify",
	.body = inotify_body,
	.match = inotify_match,
	.dump = inotify_dump,
	.check = inotify_check,
	.open = inotify_open,
	.settle = inotify_settle,
};
