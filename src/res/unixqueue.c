/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is queued in a Unix socket, read with MSG_PEEK through a duplicate: data, names of senders,
 * descriptors (SCM_RIGHTS) and credentials (SCM_CREDENTIALS). Messages are stepped over with
 * SO_PEEK_OFF, which is put back as it was.
 *
 * Cannot keep: bytes sent with MSG_OOB; empty messages that were peeked at before; credentials that
 * the socket does not pass on now (SO_PASSCRED off).
 */
#include "res/unix.h"

#include "base/kabi.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MESSAGE_MAX ((size_t)1 << 20)
#define FDS_MAX	    253 /* SCM_MAX_FD of include/net/scm.h */

/* One look. */
struct look {
	ssize_t n; /* bytes, or a negative errno */
	struct sockaddr_un from;
	socklen_t from_len;
	bool is_cut, has_cred;
	struct ucred cred;
	int fd[FDS_MAX]; /* ours */
	size_t nfds;
};

static void close_fds(struct look *l)
{
	for (size_t i = 0; i < l->nfds; i++)
		close(l->fd[i]);
	l->nfds = 0;
}

static void take_control(const struct cmsghdr *h, struct look *l)
{
	size_t len = h->cmsg_len - CMSG_LEN(0);
	int pidfd;

	if (h->cmsg_level != SOL_SOCKET)
		return;
	if (h->cmsg_type == SCM_RIGHTS) {
		l->nfds = MIN(len / sizeof(int), (size_t)FDS_MAX);
		memcpy(l->fd, CMSG_DATA(h), l->nfds * sizeof(int));
	} else if (h->cmsg_type == SCM_PIDFD && len >= sizeof(pidfd)) {
		memcpy(&pidfd, CMSG_DATA(h), sizeof(pidfd));
		close(pidfd);
	} else if (h->cmsg_type == SCM_CREDENTIALS && len >= sizeof(l->cred)) {
		memcpy(&l->cred, CMSG_DATA(h), sizeof(l->cred));
		l->has_cred = l->cred.pid != 0; /* 0: sent before anybody asked for them */
	}
}

static void look(int fd, void *buf, size_t size, struct look *l)
{
	union {
		struct cmsghdr h;
		char buf[2048];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr m = {.msg_name = &l->from,
			   .msg_namelen = sizeof(l->from),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};

	l->nfds = 0;
	l->has_cred = false;
	l->n = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	if (l->n < 0) {
		l->n = -errno;
		return;
	}
	l->from_len = m.msg_namelen;
	l->is_cut = m.msg_flags & MSG_CTRUNC;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
		take_control(h, l);
}

/* ---- recording ---- */

static int record_sender(const struct look *l, Cpx__UnixMessage *m)
{
	size_t head = offsetof(struct sockaddr_un, sun_path), len;

	if (l->from_len <= head)
		return 0;
	len = MIN(l->from_len, sizeof(l->from)) - head;
	if (l->from.sun_path[0])
		len = strnlen(l->from.sun_path, len);
	return msg_set_bytes(&m->from, l->from.sun_path, len);
}

static int record_fds(struct dump_ctx *c, const struct fd_probe *p, struct look *l,
		      Cpx__UnixMessage *m, struct err *err)
{
	int r = 0;

	m->file = l->nfds ? calloc(l->nfds, sizeof(*m->file)) : NULL;
	if (l->nfds && !m->file)
		return err_nomem(err);
	for (size_t i = 0; i < l->nfds && r == 0; i++)
		r = files_add_in_flight(c, p->t, TAKE_FD(l->fd[i]), &m->file[m->n_file++], err);
	return r;
}

static int record(struct dump_ctx *c, const struct fd_probe *p, const void *data, struct look *l,
		  Cpx__UnixSocket *b, struct err *err)
{
	Cpx__UnixMessage *m = MSG_NEW(Cpx__UnixMessage, cpx__unix_message__init);

	if (!m || msg_append(&b->message, &b->n_message, m) < 0) {
		free(m);
		return err_nomem(err);
	}
	if (msg_set_bytes(&m->data, data, l->n) < 0 ||
	    (b->type == SOCK_DGRAM && record_sender(l, m) < 0))
		return err_nomem(err);
	if (l->has_cred && !(m->cred = unix_cred_new(&l->cred)))
		return err_nomem(err);
	return record_fds(c, p, l, m, err);
}

/* ---- streams ---- */

/* A look goes on from one buffer to the next, up to one with descriptors or, when credentials are
 * passed, one of another sender; and it tells of descriptors even where it stops short of them
 * (unix_stream_read_generic()). They belong to the first byte of their buffer, the last of n bytes.
 * Where that begins tells a place that cannot be written to: all whole buffers before it are
 * copied. */
static size_t bytes_before_fds(int fd, uint8_t *buf, size_t at, size_t n, void *nowhere)
{
	struct iovec iov[2] = {{buf, n - 1}, {nowhere, 1}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t whole;

	socket_set_int(fd, SO_PEEK_OFF, at);
	whole = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT);
	return MAX(whole, 0);
}

static int look_again(int fd, uint8_t *buf, size_t at, size_t n, struct look *l, struct err *err)
{
	close_fds(l);
	socket_set_int(fd, SO_PEEK_OFF, at);
	look(fd, buf, n, l);
	return l->n == (ssize_t)n ? 0 : err_set(err, -EIO, "its queue changes");
}

static int peek_all(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
		    size_t pending, uint8_t *buf, void *nowhere, struct look *l, struct err *err)
{
	size_t done = 0, before;
	int r = 0;

	/* Never beyond what is there: that would take a pending error. */
	while (r == 0 && done < pending) {
		look(p->dup, buf, pending - done, l);
		if (l->n <= 0)
			return err_set(err, -EIO,
				       "its queue holds %zu bytes, of which %zu could be read",
				       pending, done);
		before = l->nfds ? bytes_before_fds(p->dup, buf, done, l->n, nowhere) : 0;
		if (l->nfds)
			r = look_again(p->dup, buf, done, before ? before : (size_t)l->n, l, err);
		if (before)
			close_fds(l);
		if (r == 0 && l->is_cut && !before)
			return err_set(err, -EMFILE, "too many descriptors are on their way");
		if (r == 0)
			r = record(c, p, buf, l, b, err);
		done += l->n;
	}
	return r;
}

static int peek_stream(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
		       size_t pending, struct look *l, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(pending);
	void *nowhere = mmap(NULL, CPX_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (nowhere == MAP_FAILED)
		return err_nomem(err);
	r = buf ? peek_all(c, p, b, pending, buf, nowhere, l, err) : err_nomem(err);
	munmap(nowhere, CPX_PAGE_SIZE);
	return r;
}

/* ---- messages ---- */

static int peek_messages(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
			 struct look *l, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(MESSAGE_MAX);
	int r = 0;

	if (!buf)
		return err_nomem(err);
	while (r == 0) {
		look(p->dup, buf, MESSAGE_MAX, l);
		if (l->n == -EAGAIN)
			return 0;
		if (l->n < 0)
			return err_sys(err, l->n, "cannot look at its queue");
		if ((size_t)l->n > MESSAGE_MAX)
			return err_set(err, -EMSGSIZE,
				       "a message of %zd bytes is queued, too long to be carried",
				       l->n);
		if (l->is_cut)
			return err_set(err, -EMFILE, "too many descriptors are on their way");
		if (l->n == 0 && b->type == SOCK_SEQPACKET && b->shut_read) /* the end */
			return 0;
		r = record(c, p, buf, l, b, err);
	}
	return r;
}

/* ---- without SO_PEEK_OFF ---- */

static bool is_empty(int fd, const Cpx__UnixSocket *b, int pending)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	if (b->type == SOCK_STREAM)
		return !pending;
	return poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLIN);
}

/* Mostly a stream holds nothing but bytes: then nothing needs to be set in the socket, and so
 * nothing to be put back. 1: it holds more. */
static int peek_bytes(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
		      size_t pending, struct look *l, struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(pending);

	if (!buf)
		return err_nomem(err);
	look(p->dup, buf, pending, l);
	if (l->n == (ssize_t)pending && !l->nfds && !l->is_cut)
		return record(c, p, buf, l, b, err);
	close_fds(l);
	return 1;
}

int unix_queue_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
		    struct err *err)
{
	_cleanup_free_ struct look *l = calloc(1, sizeof(*l));
	int pending = 0, r;

	if (!l)
		return err_nomem(err);
	if (ioctl(p->dup, SIOCINQ, &pending) < 0)
		return err_sys(err, -errno, "cannot ask how much is queued");
	if (is_empty(p->dup, b, pending))
		return 0;
	r = b->type == SOCK_STREAM && !b->peek_off ? peek_bytes(c, p, b, pending, l, err) : 1;
	if (r <= 0)
		return r;
	if (socket_set_int(p->dup, SO_PEEK_OFF, 0) < 0)
		return err_set(err, -EOPNOTSUPP, "cannot look at its queue: no SO_PEEK_OFF");
	r = b->type == SOCK_STREAM ? peek_stream(c, p, b, pending, l, err)
				   : peek_messages(c, p, b, l, err);
	close_fds(l);
	socket_set_int(p->dup, SO_PEEK_OFF, b->peek_off - 1);
	return r;
}
