/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pipes whose other end lies outside of the tree, where the user accepts that: whose it was is
 * recorded, and what is to stand for it (a descriptor of cpx restore, a file, nothing); at restore
 * that is opened instead.
 *
 * Not kept: that it was a pipe. What a process outside had not read yet is its own and not sent
 * again. What the tree had not read yet is only kept where nothing follows it: else refused.
 */
#include "res/external.h"
#include "res/outputs.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/sysmacros.h>

/* ---- rules ---- */

static const struct external_rule *rule_of(const struct external_rules *r, uint64_t ino)
{
	const struct external_rule *found = NULL;

	for (size_t i = 0; r && i < r->n; i++)
		if (r->rule[i].ino == ino || (!r->rule[i].ino && (!found || !found->ino)))
			found = &r->rule[i];
	return found;
}

static bool can_read(const Cpx__File *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY;
}

/* ---- dump ---- */

static int record(struct dump_ctx *c, const struct external_rule *rule, Cpx__Pipe *b,
		  struct err *err)
{
	Cpx__External *e = b->external = MSG_NEW(Cpx__External, cpx__external__init);

	if (!e)
		return err_nomem(err);
	e->what = rule->what;
	e->fd = rule->fd;
	e->same_number = rule->same_number;
	return rule->path && msg_set_bytes(&e->path, rule->path, strlen(rule->path)) < 0
		       ? err_nomem(err)
		       : 0;
}

int external_pipe_take(struct dump_ctx *c, Cpx__File *f, pid_t pid, const char *comm, mode_t mode,
		       struct err *err)
{
	const struct external_rule *rule = rule_of(c->external, f->pipe->ino);
	const struct ends *ends = files_ends(c, files_entry(c, f)->dev, f->pipe->ino);
	Cpx__External *e = f->pipe->external;
	int r = 0;

	if (!rule || ends->has_reader == ends->has_writer)
		return 0;
	if (!e)
		r = record(c, rule, f->pipe, err);
	else if (!(mode & (ends->has_reader ? S_IWUSR : S_IRUSR)))
		return 1; /* holds the tree's end too: the one at the other end is of interest */
	e = f->pipe->external;
	if (r < 0)
		return r;
	e->pid = pid;
	free(TAKE_PTR(e->comm.data));
	return msg_set_bytes(&e->comm, comm, strlen(comm)) < 0 ? err_nomem(err) : 1;
}

int external_pipe_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct ends *ends = files_ends(c, files_entry(c, f)->dev, f->pipe->ino);
	const struct external_rule *rule = rule_of(c->external, f->pipe->ino);
	Cpx__Pipe *b = f->pipe;
	int r = 0;

	if (!b->external && rule && ends->has_reader != ends->has_writer)
		r = record(c, rule, b, err);
	if (r < 0 || !b->external)
		return r;
	if (b->data.len && b->external->what != CPX__EXTERNAL__WHAT__NULL && ++c->npassing)
		r = files_refuse_entry(c, f, b->is_fifo ? "FIFO" : "pipe",
				       "cannot be checkpointed: it holds %zu bytes that were not "
				       "read yet, which cannot be put before what is to follow at "
				       "restore; try again, or use --external-pipe=null",
				       b->data.len);
	return r < 0 ? err_nomem(err) : 1;
}

/* ---- restore ---- */

static bool is_of_pipe(const Cpx__Pipe *a, const Cpx__File *f)
{
	const Cpx__Pipe *b = f->pipe;

	if (!b || a->ino != b->ino || a->is_fifo != b->is_fifo)
		return false;
	return !a->is_fifo || (a->path && b->path && a->path->dev == b->path->dev);
}

const Cpx__File *external_head(const struct restore_ctx *c, const Cpx__File *f)
{
	for (size_t i = 0; i < c->image->nfiles; i++)
		if (is_of_pipe(f->pipe, c->image->file[i]))
			return c->image->file[i]->pipe->external ? c->image->file[i] : NULL;
	return NULL;
}

/* What holds now: the user's word, else that of the image. */
static int decide(struct restore_ctx *c, const Cpx__File *head, struct external_rule *ret,
		  char path[PATH_MAX], struct err *err)
{
	const struct external_rule *rule = rule_of(c->external, head->pipe->ino);
	const Cpx__External *e = head->pipe->external;

	if (c->output_dir && c->clone && !can_read(head)) {
		*ret = (struct external_rule){.what = CPX__EXTERNAL__WHAT__FILE, .path = path};
		return outputs_stream(c, head, path) ? 0 : err_set(err, -ENAMETOOLONG, "the path of its file is too long");
	}
	if (rule)
		*ret = *rule;
	else
		*ret = (struct external_rule){
			.what = e->what, .fd = e->fd, .same_number = e->same_number, .path = path};
	if (!rule && e->what == CPX__EXTERNAL__WHAT__FILE)
		return path_text(&e->path, path, PATH_MAX, err);
	return ret->same_number && !files_number(c, head, &ret->fd)
		       ? err_set(err, -EBADMSG, "a pipe without a descriptor has no number")
		       : 0;
}

__attribute__((format(printf, 3, 4))) static int
refuse_end(struct restore_ctx *c, const Cpx__File *f, const char *fmt, ...)
{
	char why[PATH_MAX + 200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return files_refuse_restore(c, f, f->pipe->is_fifo ? "FIFO" : "pipe",
				    "cannot be restored: its other end was outside of the tree, "
				    "and %.800s (--external-pipe says what to put there)",
				    why);
}

static bool is_watched(const struct restore_ctx *c, uint32_t file)
{
	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__Epoll *e = c->image->file[i]->epoll;

		for (size_t k = 0; e && k < e->n_item; k++)
			if (e->item[k]->file == file)
				return true;
	}
	return false;
}

/* epoll_ctl(2) takes no regular files, nor /dev/null and its like. */
static bool can_be_watched(const struct stat *st)
{
	return !S_ISREG(st->st_mode) && !(S_ISCHR(st->st_mode) && major(st->st_rdev) == 1);
}

/* A descriptor that we were started with has lost this flag, or never had it. */
static bool is_inherited(const struct restore_ctx *c, int fd)
{
	return fd != c->input_fd && fcntl(fd, F_GETFD) == 0;
}

static bool has_mode(int fd, bool is_reader)
{
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

	return mode == O_RDWR || mode == (is_reader ? O_RDONLY : O_WRONLY);
}

static int check_inherited(struct restore_ctx *c, const Cpx__File *f, uint32_t fd, struct stat *st)
{
	if (!is_inherited(c, fd))
		return refuse_end(c, f, "descriptor %u of cpx restore is %s", fd,
				  (int)fd == c->input_fd ? "where the image comes from"
							 : "not open");
	if (!has_mode(fd, can_read(f)))
		return refuse_end(c, f, "descriptor %u of cpx restore is not open for %s", fd,
				  can_read(f) ? "reading" : "writing");
	return fstat(fd, st) < 0 ? -errno : 0;
}

static int check_file(struct restore_ctx *c, const Cpx__File *f, const char *path, struct stat *st)
{
	char dir[PATH_MAX];
	bool is_there = stat(path, st) == 0;

	snprintf(dir, sizeof(dir), "%s", path);
	strrchr(dir, '/')[strrchr(dir, '/') == dir] = '\0';
	if (!is_there && (can_read(f) || errno != ENOENT || access(dir, W_OK) < 0))
		return refuse_end(c, f, "'%s' cannot be %s: %s", path,
				  can_read(f) ? "opened" : "made", strerror(errno));
	if (!is_there)
		st->st_mode = S_IFREG;
	else if (S_ISDIR(st->st_mode) || S_ISSOCK(st->st_mode))
		return refuse_end(c, f, "'%s' is not a file to read or write", path);
	else if (faccessat(AT_FDCWD, path, can_read(f) ? R_OK : W_OK, AT_EACCESS) < 0)
		return refuse_end(c, f, "'%s' cannot be opened: %s", path, strerror(errno));
	return 0;
}

static int check_what(struct restore_ctx *c, const Cpx__File *f, const struct external_rule *w,
		      struct stat *st)
{
	if (c->output_dir && !can_read(f)) { /* a file that is not there yet */
		st->st_mode = S_IFREG;
		return 0;
	}
	switch (w->what) {
	case CPX__EXTERNAL__WHAT__INHERIT:
		return check_inherited(c, f, w->fd, st);
	case CPX__EXTERNAL__WHAT__FILE:
		return check_file(c, f, w->path, st);
	default:
		st->st_mode = can_read(f) ? S_IFIFO : S_IFREG;
		return 0;
	}
}

int external_pipe_check(struct restore_ctx *c, const Cpx__File *f, const Cpx__File *head,
			struct err *err)
{
	struct external_rule what;
	struct stat st = {0};
	char path[PATH_MAX];
	size_t n;
	int r = decide(c, head, &what, path, err);

	if (r < 0)
		return r;
	if (can_read(f) != can_read(head) || (f->flags & O_ACCMODE) == O_RDWR)
		return err_set(err, -EBADMSG, "the image holds both ends of an outside pipe");
	n = c->refusals->n;
	r = check_what(c, f, &what, &st);
	if (r < 0 || c->refusals->n > n)
		return r;
	if (head->pipe->data.len && what.what != CPX__EXTERNAL__WHAT__NULL)
		return refuse_end(c, f, "%zu bytes in it were not read yet, which cannot be put "
				  "before what follows", head->pipe->data.len);
	if (is_watched(c, f->id) && !can_be_watched(&st))
		return refuse_end(c, f, "an epoll watches it, which takes no such file");
	return f->n_lock ? refuse_end(c, f, "it is locked (flock)") : 0;
}

static bool is_known(const struct restore_ctx *c, uint64_t ino)
{
	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__Pipe *b = c->image->file[i]->pipe;

		if (b && b->external && b->ino == ino)
			return true;
	}
	return false;
}

int external_rules_check(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && c->external && i < c->external->n; i++)
		if (c->external->rule[i].ino && !is_known(c, c->external->rule[i].ino))
			r = refuse(c->refusals, 0, NULL, "--external-pipe",
				   "cannot be restored: pipe:[%llu] is no pipe of the image whose "
				   "other end was outside of the tree (see cpx info)",
				   (unsigned long long)c->external->rule[i].ino);
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- opening ---- */

/* Never waits for the other end of a FIFO: one that nobody reads is an error. */
static int open_what(const Cpx__File *head, const struct external_rule *w, struct err *err)
{
	uint32_t flags = (head->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	const char *path = w->what == CPX__EXTERNAL__WHAT__FILE ? w->path : "/dev/null";
	int fd;

	if (w->what == CPX__EXTERNAL__WHAT__INHERIT) {
		fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? err_sys(err, -errno, "descriptor %u is not open", w->fd) : fd;
	}
	fd = open(path, flags | (can_read(head) ? 0 : O_CREAT | O_APPEND), 0666);
	return fd < 0 ? err_sys(err, -errno, "cannot open '%s'", path) : fd;
}

/* Descriptions of a pipe have no position of their own: those that read one file share it, and
 * those that write append. What is inherited is shared with whoever has it, but for pipes, unless
 * they are another user's. */
static int open_again(struct restore_ctx *c, const Cpx__File *f, int base, bool *is_shared,
		      struct err *err)
{
	uint32_t flags = (f->flags & ~O_DIRECT) | O_NONBLOCK | (fcntl(base, F_GETFL) & O_APPEND);
	int fd = *is_shared ? -EACCES : file_reopen(c, base, flags, err);

	if (fd != -EACCES)
		return fd;
	*is_shared = true;
	fd = fcntl(base, F_DUPFD_CLOEXEC, c->fd_base);
	return fd < 0 ? err_sys(err, -errno, "cannot use what stands for a pipe") : fd;
}

static int open_one(struct restore_ctx *c, const Cpx__File *f, int base, bool is_shared,
		    struct err *err)
{
	int fd = open_again(c, f, base, &is_shared, err), now = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	uint32_t keep = O_NONBLOCK | (is_shared ? 0 : O_DIRECT);

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETFL, (now & ~keep) | (f->flags & keep)) < 0 &&
	    fcntl(fd, F_SETFL, (now & ~O_NONBLOCK) | (f->flags & O_NONBLOCK)) < 0) {
		close(fd);
		return err_sys(err, -errno, "cannot set the status flags of what stands for a pipe");
	}
	return fd;
}

static int open_all(struct restore_ctx *c, const Cpx__File *head, const struct external_rule *w,
		    struct err *err)
{
	_cleanup_close_ int base = open_what(head, w, err);
	bool is_shared;
	struct stat st;

	if (base < 0)
		return base;
	if (fstat(base, &st) < 0)
		return err_sys(err, -errno, "cannot examine what stands for a pipe");
	is_shared = !S_ISFIFO(st.st_mode) &&
		    (w->what == CPX__EXTERNAL__WHAT__INHERIT || can_read(head));
	for (size_t i = 0; i < c->image->nfiles; i++) {
		int fd;

		if (!is_of_pipe(head->pipe, c->image->file[i]))
			continue;
		fd = open_one(c, c->image->file[i], base, is_shared, err);
		if (fd < 0)
			return fd;
		c->file_fd[i] = fd;
	}
	return 0;
}

int external_pipe_open(struct restore_ctx *c, const Cpx__File *head, struct err *err)
{
	struct external_rule what;
	char path[PATH_MAX];
	int r = decide(c, head, &what, path, err);

	if (r < 0)
		return r;
	if (what.what == CPX__EXTERNAL__WHAT__NULL && can_read(head))
		return 1;
	return open_all(c, head, &what, err);
}
