/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who else has it: looks for pipes, sockets, eventfds ... of the tree among the descriptors of all
 * processes that are not in the tree (/proc/PID/fd of those that we may read). What is found is
 * refused, naming the process, or recorded where the user accepts it (external.c).
 */
#include "res/external.h"
#include "res/unix.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

static int compare_watch(const void *a, const void *b)
{
	return strcmp(((const struct watch *)a)->link, ((const struct watch *)b)->link);
}

/* All watches of one link stand together; the first of them, or NULL. */
static struct watch *find_watch(struct file_table *ft, const char *link)
{
	size_t lo = 0, hi = ft->nwatch;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(ft->watch[mid].link, link) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < ft->nwatch && strcmp(ft->watch[lo].link, link) == 0 ? &ft->watch[lo] : NULL;
}

/* A mask or a process is the same for all who have it: a copy serves as well. */
static bool is_watched_same(const Cpx__File *f)
{
	return f->eventfd || f->timerfd || f->epoll || f->inotify || f->fanotify || f->uring;
}

/* Of "socket:[123]". */
static uint64_t link_ino(const struct watch *w)
{
	return strtoull(w->link + strcspn(w->link, "0123456789"), NULL, 10);
}

/* Not the socket itself, but one at its other end. */
static bool is_peer(const struct watch *w)
{
	const Cpx__UnixSocket *b = w->file->unix_socket;

	return b && link_ino(w) != b->ino;
}

static const char *help(const struct watch *w)
{
	if (is_watched_same(w->file))
		return "";
	return w->file->pipe ? ", redirect it to a file, or say what to put there at restore "
			       "(--external-pipe)"
			     : ", or redirect it to a file";
}

/* A part of a link's mode: what its descriptor is open for. */
static mode_t link_mode(int fds, const char *fd)
{
	struct stat st;

	return fstatat(fds, fd, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mode : 0;
}

/* 1: the user accepts it. */
static int take(struct dump_ctx *c, const struct watch *w, pid_t pid, const char *comm, mode_t mode,
		struct err *err)
{
	if (w->file->pipe)
		return external_pipe_take(c, w->file, pid, comm, mode, err);
	return is_peer(w) && link_ino(w) == w->file->unix_socket->peer_ino
		       ? unix_external_take(c, w->file, pid, comm, err)
		       : 0;
}

static int report(struct dump_ctx *c, struct watch *w, int dir, pid_t pid, mode_t mode,
		  struct err *err)
{
	const struct file_ops *ops = files_entry(c, w->file)->ops;
	char comm[64] = "?";
	int r;

	proc_comm(dir, comm, sizeof(comm), NULL);
	r = take(c, w, pid, comm, mode, err);
	if (r)
		return MIN(r, 0);
	files_entry(c, w->file)->is_outside = true;
	if (is_peer(w))
		return files_refuse_entry(
			c, w->file, ops->name,
			"cannot be checkpointed: process %d (%s), which is outside of the tree, is "
			"connected to it; dump a common parent of both, end the connection, or "
			"have it made again at restore (--external-unix)",
			pid, comm);
	return files_refuse_entry(c, w->file, ops->name,
				  "cannot be checkpointed: process %d (%s), which is outside of "
				  "the tree, has %s open too; dump a common parent of both%s",
				  pid, comm, w->link, help(w));
}

/* Of those kinds that are shared by more than a name: the description itself. */
static struct file_entry *find_same(struct dump_ctx *c, int dir, pid_t pid, const char *name,
				    const char *link)
{
	struct fd_probe p = {.fd = atoi(name)};
	struct proc_fdinfo info = {0};
	char path[32];
	int r;

	if (!c->files->watch_same || strncmp(link, "anon_inode:", 11) != 0)
		return NULL;
	snprintf(path, sizeof(path), "fd/%d", p.fd);
	r = fstatat(dir, path, &p.st, 0) < 0 ? -1 : proc_fdinfo(dir, p.fd, &info, NULL);
	p.flags = info.flags & ~O_CLOEXEC;
	proc_fdinfo_release(&info);
	return r < 0 ? NULL : files_find_same(c, &p, pid);
}

/* Where kcmp(2) is denied nobody can tell, and a master outside is not looked for. */
static bool is_really(struct dump_ctx *c, const struct watch *w, int fds, pid_t pid, const char *fd)
{
	const struct file_entry *e = files_entry(c, w->file);
	struct stat st;

	if (w->kind == WATCH_DEVICE)
		return fstatat(fds, fd, &st, 0) == 0 && st.st_dev == w->dev;
	return w->kind == WATCH_LINK ||
	       syscall(SYS_kcmp, e->tid, pid, KCMP_FILE, e->fd, atoi(fd)) == 0;
}

/* All that are watched under this link. */
static int look_at(struct dump_ctx *c, const char *link, int dir, int fds, pid_t pid,
		   const char *fd, struct err *err)
{
	const struct file_table *ft = c->files;
	struct watch *w = find_watch(c->files, link);
	int r = 0;

	for (; r == 0 && w && w < ft->watch + ft->nwatch && strcmp(w->link, link) == 0; w++)
		if (!files_entry(c, w->file)->is_outside && is_really(c, w, fds, pid, fd))
			r = report(c, w, dir, pid, link_mode(fds, fd), err);
	return r;
}

/* What the tree has behind this descriptor of a stranger, if that matters. */
static int examine(struct dump_ctx *c, int dir, int fds, pid_t pid, const char *name,
		   const char *link, struct err *err)
{
	struct watch same = {.link = (char *)link};
	struct file_entry *e;

	if (find_watch(c->files, link))
		return look_at(c, link, dir, fds, pid, name, err);
	e = find_same(c, dir, pid, name, link);
	if (!e || e->is_outside || !is_watched_same(e->file))
		return 0;
	same.file = e->file;
	return report(c, &same, dir, pid, 0, err);
}

static int scan_process(struct dump_ctx *c, int dir, pid_t pid, struct err *err)
{
	int fds = openat(dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *d = fds < 0 ? NULL : fdopendir(fds);
	char link[4352];
	struct dirent *e;
	int r = 0;

	if (fds >= 0 && !d)
		close(fds);
	while (r == 0 && d && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = '\0';
		r = examine(c, dir, dirfd(d), pid, e->d_name, link, err);
	}
	return r;
}

int outside_scan(struct dump_ctx *c, struct err *err)
{
	_cleanup_free_ pid_t *pid = NULL;
	size_t n = 0;
	int r;

	if (c->files->nwatch == 0 && !c->files->watch_same)
		return 0;
	if (c->files->nwatch)
		qsort(c->files->watch, c->files->nwatch, sizeof(*c->files->watch), compare_watch);
	r = proc_pids(c->proc_fd, &pid, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_close_ int dir = -1;

		if (pid[i] == getpid() || files_tree_has(c, pid[i]) ||
		    proc_open(c->proc_fd, pid[i], 0, &dir, NULL) < 0)
			continue;
		r = scan_process(c, dir, pid[i], err);
	}
	return r < 0 ? err_nomem(err) : 0;
}
