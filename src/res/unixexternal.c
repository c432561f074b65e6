/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unix sockets of the tree that are connected to a process outside of it, where the user accepts
 * that (--external-unix): at restore they connect again to whoever then has the name, a path from
 * the root or an abstract one, of the peer's listener.
 *
 * Refused are connections in which anything is on its way, that are half closed, that the tree has
 * accepted, or whose peer has no name that leads to a listener. Not kept: the peer, with all that it
 * knew of the connection, and so SO_PEERCRED.
 */
#include "res/unix.h"

#include "res/external.h"

#include <fcntl.h>

static bool is_reachable_name(const ProtobufCBinaryData *name)
{
	return name->len > 1 && (name->data[0] == '/' || name->data[0] == '\0');
}

/* 1: a socket of this type and name listens (datagrams: is there). 0: none. */
static int has_listener(struct unix_diag *d, const ProtobufCBinaryData *name, uint32_t type,
			struct err *err)
{
	int r = unix_diag_load(d, err);

	for (size_t i = 0; r == 0 && i < d->n; i++)
		if (d->info[i].type == type && d->info[i].name_len == name->len &&
		    memcmp(d->info[i].name, name->data, name->len) == 0 &&
		    (type == SOCK_DGRAM || d->info[i].state == UNIX_LISTENS))
			return 1;
	return r;
}

static bool leads_to_socket(const ProtobufCBinaryData *name)
{
	struct sockaddr_un sun;
	char path[UNIX_NAME_MAX + 1] = "";
	struct stat st;

	if (!unix_is_path(name))
		return true;
	unix_address(name, &sun);
	memcpy(path, sun.sun_path, UNIX_NAME_MAX);
	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

/* ---- dump ---- */

static int record(Cpx__UnixSocket *b, pid_t pid, const char *comm)
{
	Cpx__External *e = b->external = MSG_NEW(Cpx__External, cpx__external__init);

	if (!e)
		return -ENOMEM;
	e->what = CPX__EXTERNAL__WHAT__RECONNECT;
	e->pid = pid;
	return msg_set_bytes(&e->comm, comm, strlen(comm));
}

int unix_external_take(struct dump_ctx *c, Cpx__File *f, pid_t pid, const char *comm,
		       struct err *err)
{
	const struct ends *peer;

	if (!c->external || !c->external->unix_too)
		return 0;
	peer = files_ends(c, files_entry(c, f)->dev, f->unix_socket->peer_ino);
	if (!peer)
		return err_nomem(err);
	if (peer->first) /* the tree has it, too */
		return 0;
	if (f->unix_socket->external) /* others have that end, too */
		return 1;
	return record(f->unix_socket, pid, comm) < 0 ? err_nomem(err) : 1;
}

static bool is_mutual(const struct unix_diag *d, const Cpx__UnixSocket *b)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->info[i].ino == b->peer_ino)
			return d->info[i].peer_ino == b->ino;
	return false;
}

/* Why it cannot be connected again, NULL: it can. */
static const char *why_not(struct dump_ctx *c, const Cpx__File *f, bool *is_passing,
			   struct err *err)
{
	const Cpx__UnixSocket *b = f->unix_socket;
	struct unix_diag *d = &c->files->diag;

	if (!is_reachable_name(&b->peer_name))
		return "has no name by which it could be reached again (a pair, or a client of "
		       "the tree)";
	if (has_listener(d, &b->peer_name, b->type, err) <= 0 || !leads_to_socket(&b->peer_name))
		return "has a name at which nobody listens now";
	if (b->type == SOCK_DGRAM && is_mutual(d, b))
		return "is connected to it in turn";
	if (b->reset || b->shut_read || b->shut_write)
		return "has closed it, or one direction of it is shut down";
	*is_passing = true;
	if (b->n_message)
		return "has sent what was not received yet: try again in a moment";
	if (b->type != SOCK_DGRAM && files_ends(c, files_entry(c, f)->dev, b->ino)->has_unread)
		return "has not received yet what was sent to it: try again in a moment";
	return NULL;
}

int unix_external_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	Cpx__UnixSocket *b = f->unix_socket;
	bool is_passing = false;
	const char *why;

	if (!c->external || !c->external->unix_too)
		return 0;
	if (!b->external && record(b, 0, "") < 0)
		return -ENOMEM;
	why = why_not(c, f, &is_passing, err);
	c->npassing += why && is_passing;
	b->peer_ino = 0;
	if (why && files_refuse_entry(c, f, "Unix socket",
				      "cannot be checkpointed: its peer is process %u (%.*s), which "
				      "is outside of the tree and %s",
				      b->external->pid, (int)b->external->comm.len,
				      (const char *)b->external->comm.data, why) < 0)
		return -ENOMEM;
	return 1;
}

/* ---- restore ---- */

int unix_external_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const ProtobufCBinaryData *name = &f->unix_socket->peer_name;
	struct unix_diag d = {0};
	char text[UNIX_NAME_MAX + 8];
	int r = has_listener(&d, name, f->unix_socket->type, err);

	unix_diag_release(&d);
	if (r < 0 || (r && leads_to_socket(name)))
		return MIN(r, 0);
	unix_name_text(name, text, sizeof(text));
	return files_refuse_restore(c, f, "Unix socket",
				    "cannot be restored: it was connected to a process outside of "
				    "the tree, and at %s nobody that we may connect to listens now",
				    text);
}

int unix_external_node(const Cpx__UnixSocket *b, struct unix_node *ret, struct err *err)
{
	struct sockaddr_un sun;
	char path[UNIX_NAME_MAX + 1] = "";

	*ret = (struct unix_node){.fd = -1};
	if (!unix_is_path(&b->peer_name))
		return 0;
	unix_address(&b->peer_name, &sun);
	memcpy(path, sun.sun_path, UNIX_NAME_MAX);
	ret->fd = open(path, O_PATH | O_CLOEXEC);
	return ret->fd < 0 ? err_sys(err, -errno, "cannot find '%s'", path) : 0;
}
