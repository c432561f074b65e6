/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * netlink(7) sockets with nothing in them: protocol, port, groups, peer, options, socket filter. Asks
 * getsockname(2), getsockopt(2) through a duplicate, and /proc/net/netlink for what is queued.
 *
 * Only protocols in which the kernel keeps nothing else for a socket: those of requests that are answered at once,
 * and of messages to groups. Cannot keep: messages that were sent between dump and restore, the number of those that
 * were dropped. Refused: unread messages and answers that are not complete (they come again only if asked for), the
 * socket of the audit daemon, a port that somebody else has at the restore.
 */
#include "res/attr.h"
#include "res/files.h"
#include "res/socket.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

enum { GROUPS_MAX = 1024 };

static const int carried[] = {NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_AUDIT, NETLINK_KOBJECT_UEVENT};

static const struct socket_option options[] = {
	{SOL_SOCKET, SO_PASSCRED},	     {SOL_SOCKET, SO_RCVTIMEO},
	{SOL_SOCKET, SO_SNDTIMEO},	     {SOL_SOCKET, SO_TIMESTAMP},
	{SOL_SOCKET, SO_TIMESTAMPNS},	     {SOL_SOCKET, SO_PRIORITY},
	{SOL_SOCKET, SO_RCVLOWAT, 1},	     {SOL_SOCKET, SO_REUSEADDR},
	{SOL_SOCKET, SO_BROADCAST},	     {SOL_SOCKET, SO_RXQ_OVFL},
	{SOL_NETLINK, NETLINK_PKTINFO},	     {SOL_NETLINK, NETLINK_BROADCAST_ERROR},
	{SOL_NETLINK, NETLINK_NO_ENOBUFS},   {SOL_NETLINK, NETLINK_LISTEN_ALL_NSID},
	{SOL_NETLINK, NETLINK_CAP_ACK},	     {SOL_NETLINK, NETLINK_EXT_ACK},
	{SOL_NETLINK, NETLINK_GET_STRICT_CHK},
};

static ProtobufCMessage *netlink_body(const Cpx__File *f)
{
	return f->netlink ? &f->netlink->base : NULL;
}

static bool is_carried(int protocol)
{
	for (size_t i = 0; i < ARRAY_SIZE(carried); i++)
		if (carried[i] == protocol)
			return true;
	return false;
}

static bool netlink_match(const struct fd_probe *p)
{
	return S_ISSOCK(p->st.st_mode) && socket_get_int(p->dup, SO_DOMAIN) == AF_NETLINK &&
	       is_carried(socket_get_int(p->dup, SO_PROTOCOL));
}

/* ---- dump ---- */

static int dump_groups(int fd, Cpx__Netlink *b, struct err *err)
{
	uint32_t bits[GROUPS_MAX / 32] = {0};
	socklen_t len = sizeof(bits);

	if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, bits, &len) < 0)
		return err_sys(err, -errno, "cannot read its groups");
	b->group = calloc(GROUPS_MAX, sizeof(*b->group));
	if (!b->group)
		return err_nomem(err);
	for (uint32_t i = 0; i < MIN(len * 8, (socklen_t)GROUPS_MAX); i++)
		if (bits[i / 32] >> i % 32 & 1)
			b->group[b->n_group++] = i + 1;
	return 0;
}

static int dump_addresses(int fd, Cpx__Netlink *b, struct err *err)
{
	struct sockaddr_nl name, peer;
	socklen_t len = sizeof(name), peer_len = sizeof(peer);

	if (getsockname(fd, (struct sockaddr *)&name, &len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return err_sys(err, -errno, "cannot read its address");
	b->port = name.nl_pid;
	b->peer_port = peer.nl_pid;
	b->peer_groups = peer.nl_groups;
	return dump_groups(fd, b, err);
}

/* A look at the queue itself could make the kernel go on with an answer (net/netlink/af_netlink.c). */
static int refuse_traffic(struct dump_ctx *c, const struct fd_probe *p, struct err *err)
{
	struct proc_netlink info;
	struct pollfd pfd = {.fd = p->dup};
	int r = proc_netlink(c->proc_fd, p->st.st_ino, &info, err);

	if (r < 0)
		return r;
	if (poll(&pfd, 1, 0) > 0 && pfd.revents & POLLERR)
		info.unread = 1; /* the news that some were lost */
	if (!info.unread && !info.is_answering)
		return 0;
	c->npassing++;
	return files_refuse(c, p, "netlink socket",
			    "cannot be checkpointed: it holds messages of the kernel that were not yet "
			    "read: try again");
}

/* Whether the kernel sends the audit records to a task of the tree; only who controls them may ask. */
static bool is_audit_daemon(const struct dump_ctx *c)
{
	struct {
		struct nlmsghdr nlh;
		struct audit_status status;
	} m = {.nlh = {.nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = AUDIT_GET, .nlmsg_flags = NLM_F_REQUEST}};
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);

	if (fd < 0 || send(fd, &m, m.nlh.nlmsg_len, 0) < 0 || recv(fd, &m, sizeof(m), MSG_DONTWAIT) < 0)
		return false;
	return m.nlh.nlmsg_type == AUDIT_GET && m.status.pid && files_tree_has(c, (pid_t)m.status.pid);
}

static int dump_options(const struct fd_probe *p, Cpx__Netlink *b, struct err *err)
{
	b->sndbuf = (uint32_t)socket_get_int(p->dup, SO_SNDBUF);
	b->rcvbuf = (uint32_t)socket_get_int(p->dup, SO_RCVBUF);
	return socket_options_dump(p->dup, options, ARRAY_SIZE(options), &b->option, &b->n_option, err);
}

static int netlink_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__Netlink *b = f->netlink = MSG_NEW(Cpx__Netlink, cpx__netlink__init);
	int r;

	if (!b)
		return err_nomem(err);
	files_watch_same(c);
	b->type = (uint32_t)socket_get_int(p->dup, SO_TYPE);
	b->protocol = (uint32_t)socket_get_int(p->dup, SO_PROTOCOL);
	if (b->protocol == NETLINK_AUDIT && is_audit_daemon(c))
		return files_refuse(c, p, "netlink socket", "cannot be checkpointed: it is the audit daemon's");
	r = refuse_traffic(c, p, err);
	if (r == 0)
		r = dump_addresses(p->dup, b, err);
	if (r == 0)
		r = dump_options(p, b, err);
	return r < 0 ? r : socket_filter_dump(c, p, "netlink socket", &b->filter, err);
}

/* ---- restore ---- */

static int bind_port(const Cpx__Netlink *b, int fd)
{
	struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = b->port};

	return b->port && bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? -errno : 0;
}

static int join_groups(const Cpx__Netlink *b, int fd)
{
	int r = 0;

	for (size_t i = 0; i < b->n_group && r == 0; i++)
		r = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &b->group[i], sizeof(b->group[i])) < 0
			    ? -errno
			    : 0;
	return r;
}

static int make(const Cpx__Netlink *b, int *ret_fd)
{
	int r;

	*ret_fd = socket(AF_NETLINK, (int)b->type | SOCK_CLOEXEC, (int)b->protocol);
	if (*ret_fd < 0)
		return -errno;
	r = bind_port(b, *ret_fd);
	return r < 0 ? r : join_groups(b, *ret_fd);
}

/* By making one: nothing else tells what is free and allowed. */
static int netlink_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r = make(f->netlink, &fd);

	if (r == 0)
		return 0;
	if (r == -EADDRINUSE)
		return files_refuse_restore(c, f, "netlink socket",
					    "cannot be restored: its port %u is taken; end the process that "
					    "has it",
					    f->netlink->port);
	return files_refuse_restore(c, f, "netlink socket", "cannot be restored: %s", strerror(-r));
}

static int set_up(const Cpx__Netlink *b, int fd, struct err *err)
{
	struct sockaddr_nl peer = {
		.nl_family = AF_NETLINK, .nl_pid = b->peer_port, .nl_groups = b->peer_groups};
	int r;

	if ((b->peer_port || b->peer_groups) && connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		return err_sys(err, -errno, "cannot connect the netlink socket");
	socket_set_buffer(fd, SO_SNDBUF, b->sndbuf);
	socket_set_buffer(fd, SO_RCVBUF, b->rcvbuf);
	r = socket_options_restore(fd, options, ARRAY_SIZE(options), b->option, b->n_option, err);
	return r < 0 ? r : socket_filter_restore(fd, &b->filter, err);
}

static int netlink_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r = make(f->netlink, &fd);

	if (r < 0)
		return err_sys(err, r, "cannot make the netlink socket");
	r = set_up(f->netlink, fd, err);
	return r < 0 ? r : anon_finish(c, f, TAKE_FD(fd), ret_fd, err);
}

const struct file_ops netlink_file_ops = {
	.name = "netlink socket",
	.body = netlink_body,
	.match = netlink_match,
	.dump = netlink_dump,
	.check = netlink_check,
	.open = netlink_open,
};
