/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unix sockets of all types, dump side: pairs, named, listening, connected to each other, with what
 * is queued in them, and with connections that wait to be accepted.
 *
 * Peers outside of the tree that the user accepts: unixexternal.c.
 *
 * Names are read from a duplicate, peers and waiting connections by sock_diag. Refused: peers
 * outside of the tree, what nobody can see (data sent before accept(2)), and states that cannot be
 * made again by the calls that there are. unixname.c, unixqueue.c, unixcred.c, unixoption.c say
 * what they cannot keep.
 */
#include "res/unix.h"

#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>

static ProtobufCMessage *unix_body(const Cpx__File *f)
{
	return f->unix_socket ? &f->unix_socket->base : NULL;
}

static bool unix_match(const struct fd_probe *p)
{
	return S_ISSOCK(p->st.st_mode) && socket_get_int(p->dup, SO_DOMAIN) == AF_UNIX;
}

__attribute__((format(printf, 3, 4))) static int
refuse_socket(struct dump_ctx *c, const Cpx__File *f, const char *fmt, ...)
{
	char why[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return files_refuse_entry(c, f, "Unix socket", "cannot be checkpointed: %s", why);
}

/* ---- one socket ---- */

static int watch_ino(struct dump_ctx *c, Cpx__File *f, uint64_t ino, struct err *err)
{
	char link[40];

	if (!ino)
		return 0;
	snprintf(link, sizeof(link), "socket:[%llu]", (unsigned long long)ino);
	return files_watch(c, f, link, err);
}

/* Everybody who would lose a connection: holders of it, its peer, those that send to it. */
static int watch_all(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct unix_diag *d = &c->files->diag;
	const Cpx__UnixSocket *b = f->unix_socket;
	int r = watch_ino(c, f, b->ino, err);

	if (r == 0)
		r = watch_ino(c, f, b->peer_ino, err);
	if (r == 0)
		r = watch_ino(c, f, unix_diag_listener(d, b->ino), err);
	for (size_t i = 0; r == 0 && i < b->n_pending; i++)
		r = watch_ino(c, f, b->pending[i], err);
	for (size_t i = 0; r == 0 && b->type == SOCK_DGRAM && b->name.len && i < d->n; i++)
		if (d->info[i].peer_ino == b->ino)
			r = watch_ino(c, f, d->info[i].ino, err);
	return r;
}

static int dump_listener(struct dump_ctx *c, const struct unix_diag_info *info, Cpx__UnixSocket *b,
			 struct err *err)
{
	const struct unix_diag *d = &c->files->diag;

	b->backlog = info->backlog;
	b->pending = calloc(d->nwaiting + 1, sizeof(*b->pending));
	if (!b->pending)
		return err_nomem(err);
	for (size_t i = 0; i < d->nwaiting; i++)
		if (d->waiting[i].listener == b->ino)
			b->pending[b->n_pending++] = d->waiting[i].client;
	return 0;
}

static int dump_names(int fd, Cpx__UnixSocket *b, struct err *err)
{
	int r = unix_name_get(fd, false, &b->name, err);

	if (r == 0)
		r = unix_name_get(fd, true, &b->peer_name, err);
	if (r == 0 && unix_cred_get(fd, &b->peer_cred) < 0)
		r = err_nomem(err);
	return r;
}

/* 1: refused. Before the queue is looked at. */
static int refuse_early(struct dump_ctx *c, const struct fd_probe *p, const Cpx__File *f)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	int sent = 0, r = 0;

	if (b->reset && b->type != SOCK_STREAM)
		r = files_refuse(c, p, "Unix socket",
				 "cannot be checkpointed: an error is pending (its peer has closed "
				 "with messages unread); to look at its queue would take it");
	else if (unix_diag_listener(&c->files->diag, b->ino) &&
		 (ioctl(p->dup, SIOCOUTQ, &sent) < 0 || sent) && ++c->npassing)
		r = files_refuse(c, p, "Unix socket",
				 "cannot be checkpointed: it has sent data on a connection that is "
				 "not accepted yet, which nobody can read; try again in a moment");
	else
		return 0;
	return r < 0 ? r : 1;
}

static int dump_known(struct dump_ctx *c, const struct fd_probe *p,
		      const struct unix_diag_info *info, Cpx__File *f, struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket;
	struct ends *ends = files_ends(c, p->st.st_dev, b->ino);
	int r, sent = 0;

	if (!ends)
		return err_nomem(err);
	ends->first = f;
	ends->has_unread = ioctl(p->dup, SIOCOUTQ, &sent) < 0 || sent;
	b->peer_ino = info->peer_ino;
	b->listening = socket_get_int(p->dup, SO_ACCEPTCONN) == 1;
	b->unconnected = !info->has_peer;
	b->shut_read = info->shutdown & 1;
	b->shut_write = info->shutdown & 2;
	r = dump_names(p->dup, b, err);
	if (r == 0)
		r = unix_options_dump(p->dup, b, err);
	if (r == 0)
		r = socket_filter_dump(c, p, "Unix socket", &b->filter, err);
	if (r == 0)
		r = unix_file_dump(c, p, info, b, err);
	if (r == 0 && b->listening)
		r = dump_listener(c, info, b, err);
	if (r == 0)
		r = watch_all(c, f, err);
	if (r < 0)
		return r;
	r = refuse_early(c, p, f);
	if (r)
		return r < 0 ? err_nomem(err) : 0;
	return b->listening || (b->unconnected && b->type != SOCK_DGRAM)
		       ? 0
		       : unix_queue_dump(c, p, b, err);
}

static int unix_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket = MSG_NEW(Cpx__UnixSocket, cpx__unix_socket__init);
	struct unix_diag_info info;
	int r;

	if (!b)
		return err_nomem(err);
	b->ino = p->st.st_ino;
	b->type = socket_get_int(p->dup, SO_TYPE);
	r = unix_diag_get(&c->files->diag, b->ino, &info, err);
	if (r < 0)
		return files_refuse(c, p, "Unix socket", "cannot be checkpointed: %s",
				    err ? err->msg : "no sock_diag");
	return dump_known(c, p, &info, f, err);
}

/* ---- when all are known ---- */

static Cpx__File *in_tree(struct dump_ctx *c, const Cpx__File *f, uint64_t ino)
{
	struct ends *ends = ino ? files_ends(c, files_entry(c, f)->dev, ino) : NULL;

	return ends ? ends->first : NULL;
}

static bool is_pair(const Cpx__UnixSocket *a, const Cpx__UnixSocket *b)
{
	return a->peer_ino == b->ino && b->peer_ino == a->ino;
}

/* A listener and all that were accepted from it have one name. */
static bool is_shared_name(const struct dump_ctx *c, const Cpx__UnixSocket *b)
{
	for (size_t i = 0; b->name.len && i < files_count(c); i++) {
		const Cpx__UnixSocket *s = files_get(c, i)->unix_socket;

		if (s && s != b && s->type == b->type && unix_same_name(&s->name, &b->name))
			return true;
	}
	return false;
}

/* Which end of a connection was accepted is not told. The other may have a name too, mostly one
 * that the kernel has chosen: five hexadecimal digits (unix_autobind()). */
static bool looks_accepted(const struct dump_ctx *c, const Cpx__UnixSocket *b,
			   const ProtobufCBinaryData *peer_name)
{
	bool is_autobound = b->name.len == 6 && !unix_is_path(&b->name);

	if (!b->name.len)
		return false;
	return !peer_name->len || is_shared_name(c, b) || !is_autobound;
}

static void find_accepted(struct dump_ctx *c, Cpx__UnixSocket *b, Cpx__UnixSocket *peer)
{
	if (peer && (peer->accepted || b->accepted))
		return;
	if (!peer)
		b->accepted = looks_accepted(c, b, &b->peer_name) &&
			      (!b->peer_name.len || is_shared_name(c, b));
	else if (is_shared_name(c, peer) || !looks_accepted(c, b, &peer->name))
		peer->accepted = peer->name.len > 0;
	else
		b->accepted = true;
}

static int complete_stream(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket;
	Cpx__File *peer = in_tree(c, f, b->peer_ino);
	int r = b->peer_ino && !peer ? unix_external_complete(c, f, err) : 0;

	if (r)
		return MIN(r, 0);
	if (b->peer_ino && (!peer || !is_pair(b, peer->unix_socket)))
		return refuse_socket(c, f,
				     "its peer is not in the tree (in a process that cpx may "
				     "not look at, or on its way in a message)");
	if (!b->unconnected && !unix_diag_listener(&c->files->diag, b->ino))
		find_accepted(c, b, peer ? peer->unix_socket : NULL);
	return 0;
}

static bool is_from(const Cpx__UnixSocket *b, const ProtobufCBinaryData *name)
{
	for (size_t i = 0; i < b->n_message; i++)
		if (b->message[i]->from.len && !unix_same_name(&b->message[i]->from, name))
			return false;
	return true;
}

static int complete_datagram(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	const Cpx__File *peer = in_tree(c, f, b->peer_ino);
	bool made_as_pair =
		b->peer_cred && (peer ? is_pair(b, peer->unix_socket) : !b->peer_name.len);
	int r;

	if (b->peer_ino && !peer && (r = unix_external_complete(c, f, err)))
		return MIN(r, 0);
	if (b->peer_ino && !peer)
		return refuse_socket(c, f,
				     "its peer is not in the tree (in a process that cpx may "
				     "not look at, or on its way in a message)");
	if (made_as_pair)
		return is_from(b, &b->peer_name)
			       ? 0
			       : refuse_socket(c, f,
					       "it is one of a pair and holds messages of "
					       "others");
	if (b->peer_cred)
		return refuse_socket(c, f, "it was one of a pair and then connected elsewhere");
	if (!b->unconnected && !b->peer_name.len)
		return refuse_socket(c, f, "it is connected to a socket without a name");
	return 0;
}

static int complete_listener(struct dump_ctx *c, Cpx__File *f)
{
	const Cpx__UnixSocket *b = f->unix_socket;

	for (size_t i = 0; i < b->n_pending; i++)
		if (!b->pending[i] && ++c->npassing)
			return refuse_socket(c, f,
					     "a connection waits to be accepted whose other end is "
					     "closed already; try again in a moment");
		else if (!in_tree(c, f, b->pending[i]))
			return refuse_socket(c, f,
					     "a connection of a process outside of the tree "
					     "waits to be accepted");
	return 0;
}

static bool is_in_a_table(const struct dump_ctx *c, uint32_t file)
{
	for (size_t i = 0; i < files_ntables(c); i++)
		if (files_table_has(files_table(c, i), file))
			return true;
	return false;
}

/* What came along with messages. */
static int complete_message(struct dump_ctx *c, Cpx__File *f, const Cpx__UnixMessage *m)
{
	if (m->cred && !files_tree_has(c, m->cred->pid))
		return refuse_socket(c, f,
				     "a message waits in it with the credentials of process %u, "
				     "which is not in the tree",
				     m->cred->pid);
	for (size_t i = 0; i < m->n_file; i++)
		if (files_get(c, m->file[i] - 1)->owner && !is_in_a_table(c, m->file[i]))
			return refuse_socket(c, f,
					     "a descriptor with an owner (F_SETOWN) is on "
					     "its way through it and in no task");
	return 0;
}

static int complete_file(struct dump_ctx *c, Cpx__File *f)
{
	Cpx__UnixSocket *b = f->unix_socket;
	char text[UNIX_NAME_MAX + 8];

	if (b->accepted && b->file) {
		cpx__unix_file__free_unpacked(TAKE_PTR(b->file), NULL);
		return 0;
	}
	if (b->accepted || !unix_is_path(&b->name) || b->file)
		return 0;
	unix_name_text(&b->name, text, sizeof(text));
	return refuse_socket(c, f,
			     "its file %s was renamed, deleted or replaced and is not found (that "
			     "needs CAP_NET_ADMIN, and a name in this mount namespace)",
			     text);
}

static int unix_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	int r = 0;

	if (files_entry(c, f)->is_outside)
		return 0;
	if (b->listening)
		r = complete_listener(c, f);
	else if (b->type == SOCK_DGRAM)
		r = complete_datagram(c, f, err);
	else
		r = complete_stream(c, f, err);
	for (size_t i = 0; r == 0 && i < b->n_message; i++)
		r = complete_message(c, f, b->message[i]);
	if (r == 0)
		r = complete_file(c, f);
	return r < 0 ? err_nomem(err) : 0;
}

const struct file_ops unix_file_ops = {
	.name = "Unix socket",
	.body = unix_body,
	.match = unix_match,
	.dump = unix_dump,
	.complete = unix_complete,
	.check = unix_check,
	.open = unix_open,
	.fill = unix_fill,
};
