/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options and filters of sockets: see socket.h. Cannot keep: that a filter was locked (SO_LOCK_FILTER). */
#include "res/socket.h"

#include "res/files.h"

#include <linux/filter.h>
#include <sys/socket.h>

enum { VALUE_MAX = 16 };

int socket_get_int(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -errno : value;
}

int socket_set_int(int fd, int option, int value)
{
	return setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* The kernel doubles what it is given. A size beyond the limit needs CAP_NET_ADMIN; without it the largest allowed
 * is set. */
void socket_set_buffer(int fd, int option, uint32_t value)
{
	int force = option == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;

	if (socket_get_int(fd, option) != (int)value && socket_set_int(fd, force, (int)(value / 2)) < 0)
		socket_set_int(fd, option, (int)(value / 2));
}

/* ---- options ---- */

static int append(const struct socket_option *o, const uint8_t *value, size_t len, Cpx__SocketOption ***ret,
		  size_t *ret_n)
{
	Cpx__SocketOption *m = MSG_NEW(Cpx__SocketOption, cpx__socket_option__init);

	if (!m || msg_append(ret, ret_n, m) < 0) {
		free(m);
		return -ENOMEM;
	}
	m->level = (uint32_t)o->level;
	m->option = (uint32_t)o->option;
	return msg_set_bytes(&m->value, value, len);
}

int socket_options_dump(int fd, const struct socket_option *table, size_t n,
			Cpx__SocketOption ***ret, size_t *ret_n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		const struct socket_option *o = &table[i];
		uint8_t value[VALUE_MAX] = {0}, fresh[VALUE_MAX] = {o->fresh};
		socklen_t len = sizeof(value);

		if (getsockopt(fd, o->level, o->option, value, &len) < 0 || memcmp(value, fresh, len) == 0)
			continue;
		if (append(o, value, len, ret, ret_n) < 0)
			return err_nomem(err);
	}
	return 0;
}

static bool is_known(const struct socket_option *table, size_t n, const Cpx__SocketOption *o)
{
	for (size_t i = 0; i < n; i++)
		if (table[i].level == (int)o->level && table[i].option == (int)o->option)
			return true;
	return false;
}

int socket_options_restore(int fd, const struct socket_option *table, size_t n,
			   Cpx__SocketOption *const *option, size_t noptions, struct err *err)
{
	for (size_t i = 0; i < noptions; i++) {
		const Cpx__SocketOption *o = option[i];

		if (!is_known(table, n, o))
			return err_set(err, -EBADMSG, "an unknown socket option %u/%u", o->level, o->option);
		if (setsockopt(fd, (int)o->level, (int)o->option, o->value.data, (socklen_t)o->value.len) < 0)
			return err_sys(err, -errno, "cannot set socket option %u/%u", o->level, o->option);
	}
	return 0;
}

/* ---- filters: counted in instructions ---- */

int socket_filter_dump(struct dump_ctx *c, const struct fd_probe *p, const char *kind,
		       ProtobufCBinaryData *ret, struct err *err)
{
	_cleanup_free_ struct sock_filter *code = NULL;
	socklen_t n = 0;

	if (getsockopt(p->dup, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0)
		return errno == EACCES ? files_refuse(c, p, kind, "cannot be checkpointed: it has an eBPF filter")
				       : err_sys(err, -errno, "cannot read the socket filter");
	if (!n)
		return 0;
	code = calloc(n, sizeof(*code));
	if (!code)
		return err_nomem(err);
	if (getsockopt(p->dup, SOL_SOCKET, SO_GET_FILTER, code, &n) < 0)
		return err_sys(err, -errno, "cannot read the socket filter");
	return msg_set_bytes(ret, code, n * sizeof(*code)) < 0 ? err_nomem(err) : 0;
}

int socket_filter_restore(int fd, const ProtobufCBinaryData *filter, struct err *err)
{
	struct sock_fprog prog = {
		.len = (unsigned short)(filter->len / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)filter->data,
	};

	if (!filter->len)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0
		       ? err_sys(err, -errno, "cannot attach the socket filter")
		       : 0;
}
