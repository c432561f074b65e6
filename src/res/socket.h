/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kinds of sockets share: options and filters, by getsockopt(2) and setsockopt(2). Private to the files of
 * src/res.
 */
#ifndef CPX_RES_SOCKET_H
#define CPX_RES_SOCKET_H

#include "res/res.h"

struct socket_option {
	int level, option;
	uint8_t fresh; /* in a new socket */
};

/* Of SOL_SOCKET, an int. Negative: -errno. */
int socket_get_int(int fd, int option);
int socket_set_int(int fd, int option, int value);
/* SO_SNDBUF, SO_RCVBUF as getsockopt(2) gave it; without CAP_NET_ADMIN as near as allowed. */
void socket_set_buffer(int fd, int option, uint32_t value);

/* Appends those of the table whose value is not that of a new socket. */
int socket_options_dump(int fd, const struct socket_option *table, size_t n,
			Cpx__SocketOption ***ret, size_t *ret_n, struct err *err);
/* Those that are in the table; -EBADMSG for others. */
int socket_options_restore(int fd, const struct socket_option *table, size_t n,
			   Cpx__SocketOption *const *option, size_t noptions, struct err *err);

/* The classic BPF program of SO_ATTACH_FILTER, empty if there is none. An eBPF program, which cannot be read
 * (net/core/filter.c, sk_get_filter), is refused. kind: "Unix socket". */
int socket_filter_dump(struct dump_ctx *c, const struct fd_probe *p, const char *kind,
		       ProtobufCBinaryData *ret, struct err *err);
int socket_filter_restore(int fd, const ProtobufCBinaryData *filter, struct err *err);

#endif
