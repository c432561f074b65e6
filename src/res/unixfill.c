/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unix sockets, the end of their restore: what was queued is sent again by those who sent it, with
 * descriptors and credentials; datagram sockets are connected; peers that were closed are closed;
 * then options, shutdown and flags. Last the socket files appear at their paths.
 */
#include "res/unix.h"

#include <fcntl.h>

/* Room for what was queued: it may have come in a few large buffers. */
#define ROOM (1 << 25)

/* ---- messages ---- */

struct message {
	struct msghdr h;
	struct iovec iov;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(253 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
};

static void *add_control(struct message *m, int type, size_t len)
{
	struct cmsghdr *h = (void *)(m->control.buf + m->h.msg_controllen);

	*h = (struct cmsghdr){CMSG_LEN(len), SOL_SOCKET, type};
	m->h.msg_controllen += CMSG_SPACE(len);
	m->h.msg_control = m->control.buf;
	return CMSG_DATA(h);
}

static int add_fds(const struct restore_ctx *c, const Cpx__UnixMessage *b, struct message *m)
{
	int fd[253];

	if (b->n_file > ARRAY_SIZE(fd))
		return -EBADMSG;
	for (size_t i = 0; i < b->n_file; i++) {
		fd[i] = files_fd(c, b->file[i]);
		if (fd[i] < 0)
			return -EBADMSG;
	}
	if (b->n_file)
		memcpy(add_control(m, SCM_RIGHTS, b->n_file * sizeof(int)), fd,
		       b->n_file * sizeof(int));
	return 0;
}

static void add_cred(const Cpx__UnixMessage *b, struct message *m)
{
	struct ucred cred;

	if (!b->cred)
		return;
	cred = (struct ucred){b->cred->pid, b->cred->uid, b->cred->gid};
	memcpy(add_control(m, SCM_CREDENTIALS, sizeof(cred)), &cred, sizeof(cred));
}

/* to: NULL where the sender is connected. */
static int send_message(const struct restore_ctx *c, int fd, const Cpx__UnixMessage *b,
			bool is_stream, const struct sockaddr_un *to, socklen_t to_len)
{
	_cleanup_free_ struct message *m = calloc(1, sizeof(*m));
	size_t done = 0;
	ssize_t n;
	int r;

	if (!m)
		return -ENOMEM;
	r = add_fds(c, b, m);
	if (r < 0)
		return r;
	do {
		add_cred(b, m);
		m->iov = (struct iovec){b->data.len ? b->data.data + done : NULL,
					b->data.len - done};
		m->h.msg_iov = &m->iov;
		m->h.msg_iovlen = 1;
		m->h.msg_name = (void *)to;
		m->h.msg_namelen = to_len;
		n = sendmsg(fd, &m->h, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return -errno;
		done += n;
		m->h.msg_controllen = 0; /* descriptors once, credentials with all */
		m->h.msg_control = NULL;
	} while (is_stream && done < b->data.len);
	return 0;
}

static void make_room(int fd)
{
	if (socket_set_int(fd, SO_SNDBUFFORCE, ROOM) < 0)
		socket_set_int(fd, SO_SNDBUF, ROOM);
}

/* Another socket of the image, or one that is gone: with a name, or with none. */
static int send_datagram(struct restore_ctx *c, const struct unix_part *to,
			 const Cpx__UnixMessage *m, struct err *err)
{
	struct unix_world *w = c->unix_world;
	struct unix_stand_in *s = NULL;
	struct sockaddr_un sun;
	socklen_t len = unix_address_of(&to->b->name, to->node.fd, &sun);
	_cleanup_close_ int nobody = -1;
	int fd = -1, r = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->part[i].b->type == SOCK_DGRAM &&
		    unix_same_name(&w->part[i].b->name, &m->from))
			fd = w->part[i].fd;
	if (fd < 0 && m->from.len) {
		r = unix_stand_in(w, &m->from, SOCK_DGRAM, &s, err);
		fd = r < 0 ? r : s->fd;
	} else if (fd < 0) {
		fd = nobody = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
	if (fd < 0)
		return r < 0 ? r : err_sys(err, -errno, "cannot make a Unix socket");
	make_room(fd);
	r = send_message(c, fd, m, false, &sun, len);
	return r < 0 ? err_sys(err, r, "cannot be sent") : 0;
}

static int send_by_peer(struct restore_ctx *c, const struct unix_part *to,
			const Cpx__UnixMessage *m, struct err *err)
{
	int fd = to->peer ? to->peer->fd : to->other, r;

	if (fd < 0)
		return err_set(err, -EBADMSG, "the image holds data of nobody");
	make_room(fd);
	r = send_message(c, fd, m, to->b->type == SOCK_STREAM, NULL, 0);
	return r < 0 ? err_sys(err, r, "cannot be sent") : 0;
}

static int send_all(struct restore_ctx *c, const struct unix_part *p, struct err *err)
{
	const Cpx__UnixSocket *b = p->b;
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->n_message; i++) {
		r = b->type == SOCK_DGRAM && !p->is_pair ? send_datagram(c, p, b->message[i], err)
							 : send_by_peer(c, p, b->message[i], err);
		if (r < 0)
			return err_context(err, "what was queued (message %zu of %zu)", i + 1,
					   b->n_message);
	}
	return r;
}

/* ---- the rest ---- */

/* After the messages: who is connected takes none of others (unix_may_send()). */
static int connect_datagram(struct unix_world *w, const struct unix_part *p, struct err *err)
{
	const ProtobufCBinaryData *name = p->peer ? &p->peer->b->name : &p->b->peer_name;
	struct unix_stand_in *s = NULL;
	struct sockaddr_un sun;
	socklen_t len;
	int r;

	if (p->b->type != SOCK_DGRAM || p->is_pair || p->b->unconnected || p->b->external)
		return 0;
	r = p->peer ? 0 : unix_stand_in(w, name, SOCK_DGRAM, &s, err);
	if (r < 0)
		return r;
	len = unix_address_of(name, p->peer ? p->peer->node.fd : s->node.fd, &sun);
	return connect(p->fd, (struct sockaddr *)&sun, len) < 0
		       ? err_sys(err, -errno, "cannot be connected to its peer")
		       : 0;
}

static int close_other(struct unix_part *p, struct err *err)
{
	if (p->other < 0)
		return 0;
	/* A peer that closes with something unread leaves ECONNRESET behind (unix_release_sock()).
	 */
	if (p->b->reset && send(p->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return err_sys(err, -errno, "cannot make a socket that was reset");
	close(TAKE_FD(p->other));
	return 0;
}

static int finish(const struct unix_part *p, struct err *err)
{
	const Cpx__UnixSocket *b = p->b;
	int r = unix_options_restore(p->fd, b, err);

	if (r < 0)
		return r;
	if (b->shut_read || b->shut_write)
		shutdown(p->fd, b->shut_read && b->shut_write ? SHUT_RDWR
				: b->shut_read		      ? SHUT_RD
							      : SHUT_WR);
	if (fcntl(p->fd, F_SETFL, p->f->flags & ~O_ASYNC) < 0)
		return err_sys(err, -errno, "cannot set the status flags");
	return 0;
}

static int fill_all(struct restore_ctx *c, struct err *err)
{
	struct unix_world *w = c->unix_world;
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = send_all(c, &w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = connect_datagram(w, &w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = close_other(&w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = finish(&w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = unix_publish(&w->part[i].node, w->part[i].b->file, err);
	return r;
}

int unix_fill(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int r;

	if (!c->unix_world)
		return 0;
	r = fill_all(c, err);
	if (r == 0)
		unix_world_release(c);
	return r < 0 ? err_context(err, "Unix sockets") : r;
}
