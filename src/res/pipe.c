/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pipes and FIFOs: both ends, capacity, what is in them, packets of O_DIRECT pipes.
 *
 * A pipe is its inode; every description of it is a File record. The content is copied by
 * tee(2) from a duplicate of a read end, which consumes nothing, and is stored in the first record.
 * poll(2) tells whether an end is open anywhere: one that is not in the tree although it is open
 * belongs to a process outside, which is refused unless the user says what is to stand for it
 * (external.c). An end that nobody holds is restored closed.
 */
#include "res/external.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>

static ProtobufCMessage *pipe_body(const Cpx__File *f)
{
	return f->pipe ? &f->pipe->base : NULL;
}

static bool pipe_match(const struct fd_probe *p)
{
	return S_ISFIFO(p->st.st_mode);
}

static bool can_read(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* ---- dump ---- */

static int append_data(Cpx__Pipe *b, const void *data, size_t len)
{
	uint8_t *p = realloc(b->data.data, b->data.len + len);

	if (!p)
		return -ENOMEM;
	memcpy(p + b->data.len, data, len);
	b->data.data = p;
	b->data.len += len;
	return 0;
}

static int append_packet(Cpx__Pipe *b, size_t len)
{
	uint32_t *p = realloc(b->packet_len, (b->n_packet_len + 1) * sizeof(*p));

	if (!p)
		return -ENOMEM;
	p[b->n_packet_len++] = len;
	b->packet_len = p;
	return 0;
}

/* A read returns one packet where there are packets, and as much as fits where there are not: a
 * short read with more behind it was a packet. Lengths are kept until it is known that they mean
 * nothing. */
static int drain_copy(int fd, size_t pending, Cpx__Pipe *b, bool *is_packet, struct err *err)
{
	uint8_t buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (append_data(b, buf, n) < 0 || append_packet(b, n) < 0)
			return err_nomem(err);
		if (n < (ssize_t)sizeof(buf) && b->data.len < pending)
			*is_packet = true;
	}
	if (n < 0 && errno != EAGAIN)
		return err_sys(err, -errno, "cannot read the copy of a pipe");
	if (b->data.len != pending)
		return err_set(err, -EIO, "holds %zu bytes, of which %zu could be copied", pending,
			       b->data.len);
	return 0;
}

/* tee(2) links the buffers of one pipe into another: each takes a slot there, however short it is.
 */
static int copy_content(int fd, size_t pending, Cpx__Pipe *b, bool *is_packet, struct err *err)
{
	int capacity = b->capacity;
	int end[2];

	if (pipe2(end, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(err, -errno, "cannot make a pipe");
	_cleanup_close_ int out = end[0], in = end[1];
	if (fcntl(in, F_GETPIPE_SZ) < capacity && fcntl(in, F_SETPIPE_SZ, capacity) < 0)
		return err_sys(
			err, -errno,
			"cannot make a pipe of %d bytes (see /proc/sys/fs/pipe-user-pages-soft)",
			capacity);
	if (tee(fd, in, INT_MAX, SPLICE_F_NONBLOCK) < 0)
		return err_sys(err, -errno, "cannot copy what is in the pipe");
	return drain_copy(out, pending, b, is_packet, err);
}

static int fill(const struct fd_probe *p, struct ends *ends, Cpx__Pipe *first, struct err *err)
{
	int pending = 0;

	if (ends->is_filled || !can_read(p->flags))
		return 0;
	ends->is_filled = true;
	if (ioctl(p->dup, FIONREAD, &pending) < 0)
		return err_sys(err, -errno, "cannot ask how much is in the pipe");
	return pending ? copy_content(p->dup, pending, first, &ends->is_packet, err) : 0;
}

/* POLLHUP at a read end: no writer; POLLERR at a write end: no reader (pipe_poll() in fs/pipe.c). A
 * FIFO that never had a writer shows nothing, so that there only a POLLHUP is a proof. */
static void note_end(const struct fd_probe *p, struct ends *ends, Cpx__Pipe *b)
{
	struct pollfd pfd = {.fd = p->dup};

	ends->has_reader |= can_read(p->flags);
	ends->has_writer |= can_write(p->flags);
	if (poll(&pfd, 1, 0) <= 0)
		return;
	if (can_read(p->flags) && !can_write(p->flags) && (pfd.revents & POLLHUP)) {
		ends->lost_writer = true;
		b->hup = true;
	}
	if (can_write(p->flags) && !can_read(p->flags) && (pfd.revents & POLLERR))
		ends->lost_reader = true;
}

static int note_pipe(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct ends *ends = files_ends(c, p->st.st_dev, p->st.st_ino);

	if (!ends)
		return err_nomem(err);
	note_end(p, ends, f->pipe);
	if (f->pipe->packet) /* only the write end says so, and it may come last */
		ends->is_packet = true;
	if (!ends->first)
		ends->first = f;
	return fill(p, ends, ends->first->pipe, err);
}

static int dump_name(struct dump_ctx *c, const struct fd_probe *p, Cpx__Pipe *b, struct err *err)
{
	char path[sizeof(p->link)], link[PATH_MAX];

	snprintf(path, sizeof(path), "%s", p->link);
	if (path_examine(path, &p->st, link, sizeof(link)) != PATH_DELETED)
		return path_dump(c, p, "FIFO", &b->path, err);
	b->deleted = true;
	return path_record(path, &p->st, &b->path, err);
}

static int pipe_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__Pipe *b = f->pipe = msg_new(sizeof(*b), (void (*)(void *))cpx__pipe__init);
	const struct ends *ends = files_ends(c, p->st.st_dev, p->st.st_ino);
	int capacity = fcntl(p->dup, F_GETPIPE_SZ), r;

	if (!b || !ends)
		return err_nomem(err);
	bool is_new = !ends->first;

	if (capacity < 0)
		return err_sys(err, -errno, "cannot ask for its capacity");
	b->ino = p->st.st_ino;
	b->capacity = capacity;
	b->packet = f->flags & O_DIRECT;
	b->is_fifo = p->link[0] == '/';
	r = b->is_fifo ? dump_name(c, p, b, err) : 0;
	if (r == 0)
		r = note_pipe(c, p, f, err);
	return r == 0 && is_new ? files_watch(c, f, p->link, err) : r;
}

/* A FIFO may wait for its first writer, without anybody. */
static bool lacks_writer(const Cpx__File *f, const struct ends *ends)
{
	return !ends->has_writer && !ends->lost_writer && !f->pipe->is_fifo;
}

static bool lacks_reader(const struct ends *ends)
{
	return !ends->has_reader && !ends->lost_reader;
}

static int refuse_missing(struct dump_ctx *c, const Cpx__File *f, const char *end)
{
	return files_refuse_entry(c, f, f->pipe->is_fifo ? "FIFO" : "pipe",
				  "cannot be checkpointed: its %s end is held "
				  "by a process outside of the tree that cpx may not look at; "
				  "--external-pipe accepts that and says what to put there",
				  end);
}

static int pipe_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	struct ends *ends = files_ends(c, files_entry(c, f)->dev, f->pipe->ino);
	int r = 0;

	if (ends->first != f)
		return 0;
	if (!ends->is_packet)
		f->pipe->n_packet_len = 0;
	if (files_entry(c, f)->is_outside)
		return 0;
	if (f->pipe->external || lacks_writer(f, ends) || lacks_reader(ends))
		r = external_pipe_complete(c, f, err);
	if (r)
		return MIN(r, 0);
	if (lacks_writer(f, ends))
		r = refuse_missing(c, f, "write");
	else if (lacks_reader(ends))
		r = refuse_missing(c, f, "read");
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- restore ---- */

static int pipe_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__Pipe *b = f->pipe;
	const Cpx__File *head;
	size_t sum = 0;

	for (size_t i = 0; i < b->n_packet_len; i++)
		sum += b->packet_len[i];
	if (b->n_packet_len && sum != b->data.len)
		return err_set(err, -EBADMSG, "the packets of a pipe do not add up");
	if (b->data.len > b->capacity)
		return err_set(err, -EBADMSG, "a pipe holds more than its capacity");
	head = external_head(c, f);
	if (head)
		return external_pipe_check(c, f, head, err);
	if (!b->is_fifo || (b->deleted && b->path))
		return 0;
	return b->path ? path_check(c, b->path, S_IFIFO, f->flags, "FIFO", err)
		       : err_set(err, -EBADMSG, "the image holds a FIFO without a path");
}

static bool is_sibling(const Cpx__File *a, const Cpx__File *b)
{
	if (!b->pipe || a->pipe->is_fifo != b->pipe->is_fifo || a->pipe->ino != b->pipe->ino)
		return false;
	return !a->pipe->is_fifo || (b->pipe->path && a->pipe->path->dev == b->pipe->path->dev);
}

static int write_all(int fd, const uint8_t *data, size_t len, struct err *err)
{
	ssize_t n = write(fd, data, len);

	if (n == (ssize_t)len)
		return 0;
	return n < 0 ? err_sys(err, -errno, "cannot fill the pipe")
		     : err_set(err, -ENOSPC, "cannot fill the pipe: only %zd of %zu bytes fit", n,
			       len);
}

static int write_content(int fd, const Cpx__Pipe *b, struct err *err)
{
	size_t done = 0;
	int r = 0;

	if (!b->n_packet_len)
		return b->data.len ? write_all(fd, b->data.data, b->data.len, err) : 0;
	for (size_t i = 0; r == 0 && i < b->n_packet_len; i++) {
		r = write_all(fd, b->data.data + done, b->packet_len[i], err);
		done += b->packet_len[i];
	}
	return r;
}

static int prepare(int in, const Cpx__Pipe *b, struct err *err)
{
	if (fcntl(in, F_GETPIPE_SZ) != (int)b->capacity && fcntl(in, F_SETPIPE_SZ, b->capacity) < 0)
		return err_sys(err, -errno, "cannot set its capacity to %u", b->capacity);
	return write_content(in, b, err);
}

/* Everything of one pipe is opened at once, by whichever record comes first, while we hold both
 * ends so that no open blocks. */
static int open_siblings(struct restore_ctx *c, const Cpx__File *f, int out, int in,
			 struct err *err)
{
	for (size_t i = files_index(c, f); i < c->image->nfiles; i++) {
		const Cpx__File *s = c->image->file[i];
		int fd;

		if (!is_sibling(f, s) || c->file_fd[i] >= 0)
			continue;
		/* O_DIRECT means packets here, which only F_SETFL may set (setfl() in fs/fcntl.c)
		 */
		fd = file_reopen(c, can_write(s->flags) ? in : out,
				 (s->flags & ~O_DIRECT) | O_NONBLOCK, err);
		if (fd < 0)
			return fd;
		c->file_fd[i] = fd;
		if (fcntl(fd, F_SETFL, s->flags & ~O_ASYNC) < 0)
			return err_sys(err, -errno, "cannot set the status flags of a pipe");
	}
	return 0;
}

static int open_pipe(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int end[2], r;

	if (pipe2(end, O_CLOEXEC | O_NONBLOCK | (f->pipe->n_packet_len ? O_DIRECT : 0)) < 0)
		return err_sys(err, -errno, "cannot make a pipe");
	_cleanup_close_ int out = end[0], in = end[1];
	r = prepare(in, f->pipe, err);
	return r < 0 ? r : open_siblings(c, f, out, in, err);
}

/* A FIFO whose reader still waits for its first writer must not see one come and go. */
static bool never_had_writer(const struct restore_ctx *c, const Cpx__File *f)
{
	for (size_t i = files_index(c, f); i < c->image->nfiles; i++) {
		const Cpx__File *s = c->image->file[i];

		if (is_sibling(f, s) && (can_write(s->flags) || s->pipe->hup || s->pipe->data.len))
			return false;
	}
	return true;
}

#define NEAR_MAX (PATH_MAX + 32)

/* Where it was; nearby where its name is taken; else in /tmp. near says where it is then. */
static int make_deleted(const Cpx__File *f, const char *path, char near[NEAR_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(near, NEAR_MAX, "%s", path);
	if (mkfifo(near, 0600) == 0)
		return 0;
	snprintf(near, NEAR_MAX, "%.*s/.cpx-%d-%u", slash ? (int)(slash - path) : 0, path, getpid(),
		 f->id);
	if (mkfifo(near, 0600) == 0)
		return 0;
	snprintf(near, NEAR_MAX, "/tmp/.cpx-%d-%u", getpid(), f->id);
	return mkfifo(near, 0600) < 0 ? -errno : 0;
}

static int hold_deleted(const Cpx__File *f, const char *path, uint32_t flags, struct err *err)
{
	char near[NEAR_MAX];
	int fd, r = make_deleted(f, path, near);

	if (r < 0)
		return err_sys(err, r, "cannot make the deleted FIFO '%s' again", path);
	fd = open(near, flags | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? err_sys(err, -errno, "cannot open '%s'", near) : fd;
	unlink(near);
	return r;
}

/* When all are open: the mode may forbid that. */
static int set_deleted_mode(const Cpx__File *f, int hold, struct err *err)
{
	if (f->pipe->deleted && fchmod(hold, f->pipe->path->mode & 07777) < 0)
		return err_sys(err, -errno, "cannot set the mode of a deleted FIFO");
	return 0;
}

static int hold_fifo(const Cpx__File *f, uint32_t flags, struct err *err)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, r = path_text(&f->pipe->path->path, path, sizeof(path), err);

	if (r < 0 || f->pipe->deleted)
		return r < 0 ? r : hold_deleted(f, path, flags, err);
	fd = open(path, flags | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", path);
	if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		close(fd);
		return err_set(err, -ESTALE, "'%s' is not a FIFO any more", path);
	}
	return fd;
}

static int open_fifo(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	bool is_fresh = never_had_writer(c, f);
	_cleanup_close_ int hold = hold_fifo(f, is_fresh ? O_RDONLY : O_RDWR, err);
	int pending = 0, r;

	if (hold < 0)
		return hold;
	if (ioctl(hold, FIONREAD, &pending) == 0 && pending > 0)
		return err_set(err, -EBUSY,
			       "there is data in the FIFO already: another process uses it");
	if (f->pipe->n_packet_len && fcntl(hold, F_SETFL, O_DIRECT | O_NONBLOCK) < 0)
		return err_sys(err, -errno, "cannot set packet mode");
	r = is_fresh ? 0 : prepare(hold, f->pipe, err);
	if (r == 0)
		r = open_siblings(c, f, hold, hold, err);
	return r < 0 ? r : set_deleted_mode(f, hold, err);
}

static int pipe_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	size_t index = files_index(c, f);
	int r = f->pipe->external ? external_pipe_open(c, f, err) : 1;

	/* An outside FIFO of which nothing is left but what is in it is but a pipe. */
	if (r > 0)
		r = f->pipe->is_fifo && !f->pipe->external ? open_fifo(c, f, err)
							   : open_pipe(c, f, err);
	if (r < 0)
		return r;
	*ret_fd = c->file_fd[index];
	return 0;
}

const struct file_ops pipe_file_ops = {
	.name = "pipe",
	.body = pipe_body,
	.match = pipe_match,
	.dump = pipe_dump,
	.complete = pipe_complete,
	.check = pipe_check,
	.open = pipe_open,
};
