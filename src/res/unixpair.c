/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Anonymous pairs of Unix sockets (socketpair(2)) of all types, with what is queued in them.
 *
 * Queues are read with MSG_PEEK through a duplicate. Messages are stepped over with SO_PEEK_OFF,
 * which is put back as it was. The peer is found by sock_diag. Refused: sockets with names,
 * listening or unconnected ones, peers outside of the tree, descriptors or credentials on their
 * way. Cannot keep: SO_PEERCRED (it names cpx's process afterwards), bytes sent with MSG_OOB.
 */
#include "res/files.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

static ProtobufCMessage *unixpair_body(const Cpx__File *f)
{
	return f->unix_socket ? &f->unix_socket->base : NULL;
}

static int get_option(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -errno : value;
}

static int set_option(int fd, int option, int value)
{
	return setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static uint64_t get_timeout(int fd, int option)
{
	struct timeval tv = {0};
	socklen_t len = sizeof(tv);

	return getsockopt(fd, SOL_SOCKET, option, &tv, &len) < 0
		       ? 0
		       : tv.tv_sec * 1000000ULL + tv.tv_usec;
}

static int set_timeout(int fd, int option, uint64_t us)
{
	struct timeval tv = {.tv_sec = us / 1000000, .tv_usec = us % 1000000};

	return us && setsockopt(fd, SOL_SOCKET, option, &tv, sizeof(tv)) < 0 ? -errno : 0;
}

static bool unixpair_match(const struct fd_probe *p)
{
	return S_ISSOCK(p->st.st_mode) && get_option(p->dup, SO_DOMAIN) == AF_UNIX;
}

/* ---- dump: queue ---- */

/* What came along with messages. */
struct passengers {
	bool has_fds, has_creds;
};

/* The descriptors are ours now. */
static void close_passengers(const struct cmsghdr *h)
{
	for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(h) + i * sizeof(fd), sizeof(fd));
		close(fd);
	}
}

static void look_at_passengers(struct msghdr *m, struct passengers *has)
{
	has->has_fds |= (m->msg_flags & MSG_CTRUNC) != 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		struct ucred cred;

		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_RIGHTS || h->cmsg_type == SCM_PIDFD)
			close_passengers(h);
		has->has_fds |= h->cmsg_type == SCM_RIGHTS;
		if (h->cmsg_type != SCM_CREDENTIALS || h->cmsg_len < CMSG_LEN(sizeof(cred)))
			continue;
		memcpy(&cred, CMSG_DATA(h), sizeof(cred));
		has->has_creds |= cred.pid != 0; /* 0: sent before anybody asked for credentials */
	}
}

static ssize_t peek(int fd, void *buf, size_t size, struct passengers *has)
{
	union {
		struct cmsghdr h;
		char buf[2048];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	look_at_passengers(&m, has);
	return n;
}

static int append_message(Cpx__UnixSocket *b, const void *data, size_t len)
{
	ProtobufCBinaryData item = {0}, *queue;

	queue = realloc(b->queue, (b->n_queue + 1) * sizeof(*queue));
	if (!queue)
		return -ENOMEM;
	b->queue = queue;
	if (msg_set_bytes(&item, data, len) < 0)
		return -ENOMEM;
	queue[b->n_queue++] = item;
	return 0;
}

/* MSG_PEEK on a stream goes on from one buffer to the next (unix_stream_read_generic()), up to one
 * with descriptors. */
static int peek_stream(int fd, Cpx__UnixSocket *b, size_t pending, struct passengers *has,
		       struct err *err)
{
	_cleanup_free_ uint8_t *buf = malloc(pending + 1);
	ssize_t n;

	if (!buf)
		return err_nomem(err);
	n = pending ? peek(fd, buf, pending, has) : 0;
	if (n < 0)
		return err_sys(err, n, "cannot look at its queue");
	if (!has->has_fds && !has->has_creds && (size_t)n != pending)
		return err_set(err, -EIO, "its queue holds %zu bytes, of which %zd could be read",
			       pending, n);
	return n && append_message(b, buf, n) < 0 ? err_nomem(err) : 0;
}

/* SO_PEEK_OFF is on: every peek sees the next message. */
static int peek_messages(int fd, Cpx__UnixSocket *b, struct passengers *has, struct err *err)
{
	size_t size = 1 << 20;
	_cleanup_free_ uint8_t *buf = malloc(size);
	ssize_t n;

	if (!buf)
		return err_nomem(err);
	while ((n = peek(fd, buf, size, has)) >= 0) {
		if ((size_t)n > size)
			return err_set(err, -EMSGSIZE,
				       "a message of %zd bytes is queued, too long to be carried",
				       n);
		if (n == 0 && b->type == SOCK_SEQPACKET && b->shut_read) /* the end */
			return 0;
		if (append_message(b, buf, n) < 0)
			return err_nomem(err);
	}
	return n == -EAGAIN ? 0 : err_sys(err, n, "cannot look at its queue");
}

static int peek_queue(int fd, Cpx__UnixSocket *b, struct passengers *has, struct err *err)
{
	int old = MAX(get_option(fd, SO_PEEK_OFF), -1), pending = 0, r;
	bool is_stream = b->type == SOCK_STREAM;

	if (ioctl(fd, SIOCINQ, &pending) < 0)
		return err_sys(err, -errno, "cannot ask how much is queued");
	b->peek_off = old + 1;
	if ((!is_stream || old >= 0) && set_option(fd, SO_PEEK_OFF, 0) < 0)
		return err_set(err, -EOPNOTSUPP, "cannot look at its queue: no SO_PEEK_OFF");
	r = is_stream ? peek_stream(fd, b, pending, has, err) : peek_messages(fd, b, has, err);
	if (!is_stream || old >= 0)
		set_option(fd, SO_PEEK_OFF, old);
	return r;
}

/* ---- dump ---- */

static bool name_of(int fd, int (*get)(int, struct sockaddr *, socklen_t *), char *buf, size_t size)
{
	struct sockaddr_un sun = {0};
	socklen_t len = sizeof(sun);
	int path_len;

	if (get(fd, (struct sockaddr *)&sun, &len) < 0 ||
	    len <= offsetof(struct sockaddr_un, sun_path))
		return false;
	path_len = MIN(len, sizeof(sun)) - offsetof(struct sockaddr_un, sun_path);
	if (sun.sun_path[0])
		snprintf(buf, size, "%.*s", path_len, sun.sun_path);
	else
		snprintf(buf, size, "@%.*s", path_len - 1, sun.sun_path + 1);
	return true;
}

static int get_local(int fd, struct sockaddr *a, socklen_t *len)
{
	return getsockname(fd, a, len);
}

static int get_peer(int fd, struct sockaddr *a, socklen_t *len)
{
	return getpeername(fd, a, len);
}

/* 1: refused. */
static int refuse_named(struct dump_ctx *c, const struct fd_probe *p)
{
	char name[160];
	int r = 0;

	if (get_option(p->dup, SO_ACCEPTCONN) == 1)
		r = files_refuse(c, p, "Unix socket",
				 "cannot be checkpointed: it listens for connections");
	else if (name_of(p->dup, get_peer, name, sizeof(name)))
		r = files_refuse(c, p, "Unix socket",
				 "cannot be checkpointed: it is connected to '%s'", name);
	else if (name_of(p->dup, get_local, name, sizeof(name)))
		r = files_refuse(c, p, "Unix socket",
				 "cannot be checkpointed: it has the name '%s'", name);
	else
		return 0;
	return r < 0 ? r : 1;
}

static void dump_options(int fd, Cpx__UnixSocket *b)
{
	struct pollfd pfd = {.fd = fd};

	b->sndbuf = get_option(fd, SO_SNDBUF);
	b->rcvbuf = get_option(fd, SO_RCVBUF);
	b->passcred = get_option(fd, SO_PASSCRED) > 0;
	b->passsec = get_option(fd, SO_PASSSEC) > 0;
	b->rcvlowat = get_option(fd, SO_RCVLOWAT);
	b->rcvtimeo_us = get_timeout(fd, SO_RCVTIMEO);
	b->sndtimeo_us = get_timeout(fd, SO_SNDTIMEO);
	/* SO_ERROR would say which error, and forget it. There is but one for these sockets. */
	b->reset = poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
}

static int watch_both(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	char link[40];
	int r = files_watch(c, f, p->link, err);

	if (r < 0 || !f->unix_socket->peer_ino)
		return r;
	snprintf(link, sizeof(link), "socket:[%llu]", (unsigned long long)f->unix_socket->peer_ino);
	return files_watch(c, f, link, err);
}

static int dump_pair(struct dump_ctx *c, const struct fd_probe *p,
		     const struct unix_diag_info *info, Cpx__File *f, struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket;
	struct passengers has = {0};
	struct ends *ends;
	int r;

	b->peer_ino = info->peer_ino;
	b->shut_read = info->shutdown & 1;
	b->shut_write = info->shutdown & 2;
	dump_options(p->dup, b);
	ends = files_ends(c, p->st.st_dev, b->ino);
	if (!ends)
		return err_nomem(err);
	ends->first = f;
	r = peek_queue(p->dup, b, &has, err);
	if (r < 0)
		return r;
	if (has.has_fds)
		return files_refuse(c, p, "Unix socket",
				    "cannot be checkpointed: descriptors are on their way "
				    "through it (SCM_RIGHTS)");
	if (has.has_creds)
		return files_refuse(c, p, "Unix socket",
				    "cannot be checkpointed: credentials are on their way "
				    "through it (SO_PASSCRED)");
	return watch_both(c, p, f, err);
}

static int unixpair_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			 struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket =
		msg_new(sizeof(*b), (void (*)(void *))cpx__unix_socket__init);
	struct unix_diag_info info;
	int r;

	if (!b)
		return err_nomem(err);
	b->ino = p->st.st_ino;
	b->type = get_option(p->dup, SO_TYPE);
	r = refuse_named(c, p);
	if (r)
		return r < 0 ? err_nomem(err) : 0;
	r = unix_diag_get(&c->files->diag, b->ino, &info, err);
	if (r < 0)
		return files_refuse(c, p, "Unix socket", "cannot be checkpointed: %s",
				    err ? err->msg : "no sock_diag");
	if (!info.has_peer)
		return files_refuse(c, p, "Unix socket",
				    "cannot be checkpointed: it is not one of a connected pair");
	return dump_pair(c, p, &info, f, err);
}

static int unixpair_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	struct ends *peer;
	int r;

	if (!b->peer_ino || files_entry(c, f)->is_outside)
		return 0;
	peer = files_ends(c, files_entry(c, f)->dev, b->peer_ino);
	if (peer && peer->first && peer->first->unix_socket->peer_ino == b->ino)
		return 0;
	r = files_refuse_entry(c, f, "Unix socket",
			       "cannot be checkpointed: its peer is not in the tree (in a process "
			       "that cpx may not look at, or on its way in a message)");
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- restore ---- */

static Cpx__File *find_socket(const struct restore_ctx *c, uint64_t ino)
{
	for (size_t i = 0; ino && i < c->image->nfiles; i++)
		if (c->image->file[i]->unix_socket && c->image->file[i]->unix_socket->ino == ino)
			return c->image->file[i];
	return NULL;
}

static int unixpair_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	const Cpx__File *peer = find_socket(c, b->peer_ino);

	if (b->type != SOCK_STREAM && b->type != SOCK_DGRAM && b->type != SOCK_SEQPACKET)
		return err_set(err, -EBADMSG, "the image holds a Unix socket of no known type");
	if (b->peer_ino && (!peer || peer == f || peer->unix_socket->peer_ino != b->ino))
		return err_set(err, -EBADMSG, "the image holds a Unix socket without its peer");
	return 0;
}

static int send_all(int fd, const ProtobufCBinaryData *m, bool is_stream)
{
	size_t done = 0;

	do {
		ssize_t n = send(fd, m->len ? m->data + done : NULL, m->len - done,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		done += n;
	} while (is_stream && done < m->len);
	return 0;
}

/* What b had in its queue, sent again by the other end. Room for it is made first: the messages
 * may have come in a few large buffers. */
static int fill_queue(int from, const Cpx__UnixSocket *b, struct err *err)
{
	int room = 1 << 25, r;

	if (b->n_queue && set_option(from, SO_SNDBUFFORCE, room) < 0)
		set_option(from, SO_SNDBUF, room);
	for (size_t i = 0; i < b->n_queue; i++) {
		r = send_all(from, &b->queue[i], b->type == SOCK_STREAM);
		if (r < 0)
			return err_sys(err, r,
				       "cannot put back what was queued (message %zu of %zu)",
				       i + 1, b->n_queue);
	}
	return 0;
}

static void set_buffer(int fd, int option, int force, uint32_t value)
{
	/* The kernel doubles what it is given. A size beyond the limit needs CAP_NET_ADMIN; without
	 * it the largest allowed is set. */
	if (get_option(fd, option) != (int)value && set_option(fd, force, value / 2) < 0)
		set_option(fd, option, value / 2);
}

static int finish(int fd, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	int r = 0;

	set_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, b->sndbuf);
	set_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, b->rcvbuf);
	if (b->passcred)
		r = set_option(fd, SO_PASSCRED, 1);
	if (r == 0 && b->passsec)
		r = set_option(fd, SO_PASSSEC, 1);
	if (r == 0 && b->rcvlowat > 1)
		r = set_option(fd, SO_RCVLOWAT, b->rcvlowat);
	if (r == 0)
		r = set_timeout(fd, SO_RCVTIMEO, b->rcvtimeo_us);
	if (r == 0)
		r = set_timeout(fd, SO_SNDTIMEO, b->sndtimeo_us);
	if (r == 0 && b->peek_off)
		r = set_option(fd, SO_PEEK_OFF, b->peek_off - 1);
	if (r == 0 && fcntl(fd, F_SETFL, f->flags & ~O_ASYNC) < 0)
		r = -errno;
	return r < 0 ? err_sys(err, r, "cannot set the options of a Unix socket") : 0;
}

static void shut(int fd, const Cpx__UnixSocket *b)
{
	if (b->shut_read || b->shut_write)
		shutdown(fd, b->shut_read && b->shut_write ? SHUT_RDWR
			     : b->shut_read		   ? SHUT_RD
							   : SHUT_WR);
}

static int keep(struct restore_ctx *c, const Cpx__File *f, int *fd, struct err *err)
{
	int r = finish(*fd, f, err);

	if (r < 0)
		return r;
	shut(*fd, f->unix_socket);
	r = fd_raise(c, TAKE_FD(*fd), err);
	if (r < 0)
		return r;
	c->file_fd[files_index(c, f)] = r;
	return 0;
}

static int unixpair_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	const Cpx__File *peer = find_socket(c, b->peer_ino);
	int pair[2], r;

	if (socketpair(AF_UNIX, b->type | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "cannot make a socket pair");
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	r = fill_queue(theirs, b, err);
	if (r == 0 && peer)
		r = fill_queue(ours, peer->unix_socket, err);
	/* A peer that closes with something unread leaves ECONNRESET behind (unix_release_sock()).
	 */
	if (r == 0 && !peer && b->reset && send(ours, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		r = err_sys(err, -errno, "cannot make a socket that was reset");
	if (r == 0 && !peer)
		close(TAKE_FD(theirs));
	if (r == 0 && peer)
		r = keep(c, peer, &theirs, err);
	if (r == 0)
		r = keep(c, f, &ours, err);
	if (r < 0)
		return r;
	*ret_fd = c->file_fd[files_index(c, f)];
	return 0;
}

const struct file_ops unixpair_file_ops = {
	.name = "Unix socket",
	.body = unixpair_body,
	.match = unixpair_match,
	.dump = unixpair_dump,
	.complete = unixpair_complete,
	.check = unixpair_check,
	.open = unixpair_open,
};
