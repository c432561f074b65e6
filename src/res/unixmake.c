/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unix sockets, restore side: all of the image are made at once, when the first is asked for. Pairs
 * by socketpair(2), others by socket(2), bind(2), listen(2); connections by connect(2) and
 * accept(2) at the listener or, where there is none any more, at a stand-in with its name. Each
 * call whose maker the kernel remembers is made with his PID (unixcred.c). Queues, connected
 * datagram sockets, options and shutdown come in unixfill.c.
 */
#include "res/unix.h"

#include "res/attr.h"

#include <fcntl.h>
#include <linux/capability.h>

/* ---- checks ---- */

/* A socket of the image that holds this name, or will. */
static bool is_owned(const struct restore_ctx *c, const ProtobufCBinaryData *name, uint32_t type)
{
	for (size_t i = 0; name->len && i < c->image->nfiles; i++) {
		const Cpx__UnixSocket *b = c->image->file[i]->unix_socket;

		if (b && b->type == type && !b->accepted && unix_same_name(&b->name, name))
			return true;
	}
	return false;
}

static int check_names(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	int r = 0;

	if (!b->accepted || !is_owned(c, &b->name, b->type))
		r = unix_name_check(c, f, &b->name, b->type, err);
	if (r == 0 && b->external)
		r = unix_external_check(c, f, err);
	else if (r == 0 && !b->peer_ino && !is_owned(c, &b->peer_name, b->type))
		r = unix_name_check(c, f, &b->peer_name, b->type, err);
	for (size_t i = 0; r == 0 && i < b->n_message; i++)
		if (!is_owned(c, &b->message[i]->from, b->type))
			r = unix_name_check(c, f, &b->message[i]->from, b->type, err);
	return r < 0 ? r : unix_file_check(c, f, err);
}

static bool can_be(struct restore_ctx *c, const Cpx__UnixCred *cred)
{
	bool is_ours = !cred || (cred->uid == geteuid() && cred->gid == getegid());

	return is_ours || (!c->in_user_ns && attr_can(c, CAP_SETUID) && attr_can(c, CAP_SETGID));
}

static int check_creds(struct restore_ctx *c, const Cpx__File *f)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	bool is_possible = b->external || can_be(c, b->peer_cred), has_creds = false;

	for (size_t i = 0; i < b->n_message; i++) {
		is_possible &= can_be(c, b->message[i]->cred);
		has_creds |= b->message[i]->cred != NULL;
	}
	if (has_creds && !attr_can(c, CAP_SYS_ADMIN))
		is_possible = false;
	if (is_possible)
		return 0;
	return files_refuse_restore(c, f, "Unix socket",
				    "cannot be restored: its peer or the sender of a message was "
				    "another user than we may be (SO_PEERCRED, SCM_CREDENTIALS)");
}

int unix_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	int r;

	if (b->type != SOCK_STREAM && b->type != SOCK_DGRAM && b->type != SOCK_SEQPACKET)
		return err_set(err, -EBADMSG, "the image holds a Unix socket of no known type");
	r = check_names(c, f, err);
	return r < 0 ? r : check_creds(c, f);
}

/* ---- the world ---- */

static struct unix_part *find_waiting_at(const struct unix_world *w, uint64_t client)
{
	for (size_t i = 0; i < w->n; i++)
		for (size_t k = 0; k < w->part[i].b->n_pending; k++)
			if (w->part[i].b->pending[k] == client)
				return &w->part[i];
	return NULL;
}

struct unix_part *unix_part_find(const struct unix_world *w, uint64_t ino)
{
	for (size_t i = 0; ino && i < w->n; i++)
		if (w->part[i].b->ino == ino)
			return &w->part[i];
	return NULL;
}

static bool is_mutual(const struct unix_part *p)
{
	return p->peer && p->peer->b->peer_ino == p->b->ino;
}

static bool was_pair(const struct unix_world *w, const struct unix_part *p)
{
	const Cpx__UnixSocket *b = p->b;

	if (b->unconnected || b->listening || b->accepted || find_waiting_at(w, b->ino))
		return false;
	if (b->type == SOCK_DGRAM && !b->peer_cred)
		return false;
	return p->peer ? is_mutual(p) && !p->peer->b->accepted : !b->peer_name.len;
}

static int world_new(struct restore_ctx *c, struct err *err)
{
	struct unix_world *w = c->unix_world = calloc(1, sizeof(*w));

	if (!w)
		return err_nomem(err);
	w->part = calloc(c->image->nfiles + 1, sizeof(*w->part));
	if (!w->part)
		return err_nomem(err);
	for (size_t i = 0; i < c->image->nfiles; i++)
		if (c->image->file[i]->unix_socket)
			w->part[w->n++] = (struct unix_part){.f = c->image->file[i],
							     .b = c->image->file[i]->unix_socket,
							     .fd = -1,
							     .other = -1,
							     .node.fd = -1};
	for (size_t i = 0; i < w->n; i++)
		w->part[i].peer = unix_part_find(w, w->part[i].b->peer_ino);
	for (size_t i = 0; i < w->n; i++)
		w->part[i].is_pair = was_pair(w, &w->part[i]);
	return 0;
}

void unix_world_release(struct restore_ctx *c)
{
	struct unix_world *w = TAKE_PTR(c->unix_world);

	if (!w)
		return;
	for (size_t i = 0; i < w->n; i++) {
		if (w->part[i].other >= 0)
			close(w->part[i].other);
		unix_node_release(&w->part[i].node);
	}
	for (size_t i = 0; i < w->nstand_ins; i++) {
		if (w->stand_in[i].fd >= 0)
			close(w->stand_in[i].fd);
		unix_node_release(&w->stand_in[i].node);
	}
	free(w->part);
	free(w->stand_in);
	free(w);
}

int unix_stand_in(struct unix_world *w, const ProtobufCBinaryData *name, uint32_t type,
		  struct unix_stand_in **ret, struct err *err)
{
	struct unix_stand_in *s;

	for (size_t i = 0; i < w->nstand_ins; i++)
		if (w->stand_in[i].fd >= 0 && w->stand_in[i].type == type &&
		    unix_same_name(w->stand_in[i].name, name)) {
			*ret = &w->stand_in[i];
			return 0;
		}
	if (grow(&w->stand_in, &w->maxstand_ins, w->nstand_ins, sizeof(*w->stand_in)) < 0)
		return err_nomem(err);
	s = *ret = &w->stand_in[w->nstand_ins++];
	*s = (struct unix_stand_in){.name = name, .type = type, .node.fd = -1};
	s->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return err_sys(err, -errno, "cannot make a Unix socket");
	return unix_bind(s->fd, name, NULL, &s->node, err);
}

/* ---- making them ---- */

static int keep(struct restore_ctx *c, struct unix_part *p, int fd, struct err *err)
{
	int raised = fd_raise(c, fd, err);

	if (raised < 0)
		return raised;
	p->fd = c->file_fd[files_index(c, p->f)] = raised;
	return 0;
}

struct pair {
	int type, fd[2];
};

/* Onto numbers that are known to us. */
static int make_pair(void *arg)
{
	struct pair *want = arg;
	int made[2], r = 0;

	if (socketpair(AF_UNIX, want->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, made) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		if (dup3(made[i], want->fd[i], O_CLOEXEC) < 0)
			r = -errno;
		close(made[i]);
	}
	return r;
}

static int open_pair(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	_cleanup_close_ int a = open("/dev/null", O_PATH | O_CLOEXEC);
	_cleanup_close_ int b = open("/dev/null", O_PATH | O_CLOEXEC);
	struct pair pair = {.type = p->b->type, .fd = {a, b}};
	int r;

	if (a < 0 || b < 0)
		return err_sys(err, -errno, "cannot open /dev/null");
	r = unix_as(p->b->peer_cred, make_pair, &pair);
	if (r < 0)
		return err_sys(err, r, "cannot make a socket pair");
	r = keep(c, p, TAKE_FD(a), err);
	if (r == 0 && p->peer)
		r = keep(c, p->peer, TAKE_FD(b), err);
	else if (r == 0)
		p->other = TAKE_FD(b);
	return r;
}

static int make(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	int fd, r;

	if (p->fd >= 0 || p->b->accepted)
		return 0;
	if (p->is_pair)
		return open_pair(c, p, err);
	fd = socket(AF_UNIX, p->b->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, -errno, "cannot make a Unix socket");
	r = keep(c, p, fd, err);
	return r;
}

/* ---- listening and connecting ---- */

struct listening {
	int fd, backlog;
};

static int do_listen(void *arg)
{
	const struct listening *l = arg;

	return listen(l->fd, l->backlog) < 0 ? -errno : 0;
}

static int listen_as(const Cpx__UnixCred *cred, int fd, int backlog, struct err *err)
{
	struct listening l = {fd, backlog};
	int r = unix_as(cred, do_listen, &l);

	return r < 0 ? err_sys(err, r, "cannot listen") : 0;
}

struct connecting {
	int fd;
	struct sockaddr_un to;
	socklen_t len;
};

static int do_connect(void *arg)
{
	const struct connecting *w = arg;

	return connect(w->fd, (const struct sockaddr *)&w->to, w->len) < 0 ? -errno : 0;
}

static int connect_as(const Cpx__UnixCred *cred, int fd, const ProtobufCBinaryData *name,
		      const struct unix_node *node, struct err *err)
{
	struct connecting w = {.fd = fd};
	int r;

	w.len = unix_address_of(name, node->fd, &w.to);
	r = unix_as(cred, do_connect, &w);
	return r < 0 ? err_sys(err, r, "cannot connect it") : 0;
}

/* Whoever knows an abstract name may have been faster. */
static bool are_connected(int a, int b)
{
	char byte;

	return send(a, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 &&
	       recv(b, &byte, 1, MSG_DONTWAIT) == 1;
}

static int accept_from(int listener, int client, struct err *err)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return err_sys(err, -errno, "cannot accept a connection");
	if (are_connected(client, fd))
		return fd;
	close(fd);
	return err_set(err, -EBUSY, "another process has connected to its name meanwhile");
}

static struct unix_part *find_listener(struct unix_world *w, const ProtobufCBinaryData *name,
				       uint32_t type)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->part[i].b->listening && w->part[i].b->type == type &&
		    unix_same_name(&w->part[i].b->name, name))
			return &w->part[i];
	return NULL;
}

/* A connection to be made. The maker of an end is what the other end shows. */
struct link {
	int client;
	const ProtobufCBinaryData *name; /* the server's */
	const Cpx__UnixCred *client_cred, *server_cred;
	uint32_t type;
};

/* Returns the accepted socket. */
static int make_link(struct unix_world *w, const struct link *l, struct err *err)
{
	struct unix_part *real = find_listener(w, l->name, l->type);
	struct unix_stand_in *s = NULL;
	const struct unix_node *node;
	int listener, r = 0;

	if (!real)
		r = unix_stand_in(w, l->name, l->type, &s, err);
	if (r < 0)
		return r;
	listener = real ? real->fd : s->fd;
	node = real ? &real->node : &s->node;
	r = listen_as(l->server_cred, listener, SOMAXCONN, err);
	if (r == 0)
		r = connect_as(l->client_cred, l->client, l->name, node, err);
	return r < 0 ? r : accept_from(listener, l->client, err);
}

/* The client of a connection of which only the accepted end is left. */
static int make_lost_client(struct unix_world *w, const Cpx__UnixSocket *b, struct err *err)
{
	struct unix_stand_in *s;
	int fd, r;

	if (b->peer_name.len) {
		r = unix_stand_in(w, &b->peer_name, b->type, &s, err);
		return r < 0 ? r : TAKE_FD(s->fd);
	}
	fd = socket(AF_UNIX, b->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? err_sys(err, -errno, "cannot make a Unix socket") : fd;
}

static int make_accepted(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	struct link l = {.name = &p->b->name, .client_cred = p->b->peer_cred, .type = p->b->type};
	int fd;

	if (p->peer) {
		l.client = p->peer->fd;
		l.server_cred = p->peer->b->peer_cred;
	} else {
		l.client = p->other = make_lost_client(c->unix_world, p->b, err);
	}
	if (l.client < 0)
		return err_set(err, -EBADMSG, "the image holds a connection without a client");
	fd = make_link(c->unix_world, &l, err);
	return fd < 0 ? fd : keep(c, p, fd, err);
}

/* Of which only the client is left. */
static int make_client(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	struct link l = {.client = p->fd,
			 .name = &p->b->peer_name,
			 .server_cred = p->b->peer_cred,
			 .type = p->b->type};

	p->other = make_link(c->unix_world, &l, err);
	return MIN(p->other, 0);
}

/* Of the task that has it first, as far as we may be it. */
static void holder_cred(struct restore_ctx *c, const struct unix_part *p, Cpx__UnixCred *ret)
{
	const Cpx__Task *t = image_task(c->image, c->file_holder[files_index(c, p->f)]);
	const Cpx__Creds *creds = t && t->n_thread ? t->thread[0]->creds : NULL;

	*ret = (Cpx__UnixCred)CPX__UNIX_CRED__INIT;
	ret->pid = t ? t->pid : 0;
	ret->uid = creds ? creds->euid : geteuid();
	ret->gid = creds ? creds->egid : getegid();
}

/* To somebody outside of the tree. */
static int make_external(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	struct unix_node node;
	Cpx__UnixCred cred;
	int r = unix_external_node(p->b, &node, err);

	if (r < 0)
		return r;
	holder_cred(c, p, &cred);
	r = connect_as(&cred, p->fd, &p->b->peer_name, &node, err);
	unix_node_release(&node);
	return r;
}

static int make_connection(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	const Cpx__UnixSocket *b = p->b;

	if (b->external)
		return make_external(c, p, err);
	if (b->accepted)
		return make_accepted(c, p, err);
	if (b->type == SOCK_DGRAM || b->listening || b->unconnected || p->is_pair || p->peer ||
	    find_waiting_at(c->unix_world, b->ino))
		return 0;
	return make_client(c, p, err);
}

/* Who connected is not shown before it is accepted: the task that has it is the likeliest. */
static int connect_waiting(struct restore_ctx *c, const struct unix_part *listener, uint64_t ino,
			   struct err *err)
{
	const struct unix_part *p = unix_part_find(c->unix_world, ino);
	Cpx__UnixCred cred;

	if (!p)
		return err_set(err, -EBADMSG, "the image lacks a connection that waits");
	holder_cred(c, p, &cred);
	return connect_as(&cred, p->fd, &listener->b->name, &listener->node, err);
}

/* Those that wait need a place, whatever the backlog was made since. */
static int finish_listener(struct restore_ctx *c, struct unix_part *p, struct err *err)
{
	int r = 0;

	if (p->b->n_pending)
		r = listen_as(p->b->peer_cred, p->fd, SOMAXCONN, err);
	for (size_t i = 0; r == 0 && i < p->b->n_pending; i++)
		r = connect_waiting(c, p, p->b->pending[i], err);
	return r < 0 ? r : listen_as(p->b->peer_cred, p->fd, p->b->backlog, err);
}

static int make_all(struct restore_ctx *c, struct err *err)
{
	struct unix_world *w = c->unix_world;
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = make(c, &w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++) {
		struct unix_part *p = &w->part[i];

		if (p->b->name.len && !p->b->accepted)
			r = unix_bind(p->fd, &p->b->name, p->b->file, &p->node, err);
	}
	for (size_t i = 0; r == 0 && i < w->n; i++)
		r = make_connection(c, &w->part[i], err);
	for (size_t i = 0; r == 0 && i < w->n; i++)
		if (w->part[i].b->listening)
			r = finish_listener(c, &w->part[i], err);
	return r;
}

int unix_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int r = 0;

	if (!c->unix_world) {
		r = world_new(c, err);
		if (r == 0)
			r = make_all(c, err);
	}
	if (r == 0)
		*ret_fd = c->file_fd[files_index(c, f)];
	return r;
}
