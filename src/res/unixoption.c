/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options of Unix sockets: buffer sizes, time limits, what is passed along, and those of SOL_SOCKET
 * that mean little here but are remembered by the kernel (socket(7), unix(7)). Read by
 * getsockopt(2). Cannot keep: buffer sizes beyond the limits where cpx lacks CAP_NET_ADMIN.
 */
#include "res/unix.h"

#include "base/kabi.h"

#include <poll.h>
#include <sys/time.h>

/* Remembered as they are. */
static const struct socket_option plain[] = {
	{SOL_SOCKET, SO_KEEPALIVE},   {SOL_SOCKET, SO_BROADCAST}, {SOL_SOCKET, SO_REUSEADDR},
	{SOL_SOCKET, SO_OOBINLINE},   {SOL_SOCKET, SO_PRIORITY},  {SOL_SOCKET, SO_TIMESTAMP},
	{SOL_SOCKET, SO_TIMESTAMPNS}, {SOL_SOCKET, SO_LINGER},    {SOL_SOCKET, SO_PASSPIDFD},
	{SOL_SOCKET, SO_PASSRIGHTS, 1},
};

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

int unix_options_dump(int fd, Cpx__UnixSocket *b, struct err *err)
{
	struct pollfd pfd = {.fd = fd};

	b->sndbuf = socket_get_int(fd, SO_SNDBUF);
	b->rcvbuf = socket_get_int(fd, SO_RCVBUF);
	b->passcred = socket_get_int(fd, SO_PASSCRED) > 0;
	b->passsec = socket_get_int(fd, SO_PASSSEC) > 0;
	b->rcvlowat = socket_get_int(fd, SO_RCVLOWAT);
	b->rcvtimeo_us = get_timeout(fd, SO_RCVTIMEO);
	b->sndtimeo_us = get_timeout(fd, SO_SNDTIMEO);
	b->peek_off = MAX(socket_get_int(fd, SO_PEEK_OFF), -1) + 1;
	/* SO_ERROR would say which error, and forget it. There is but one for these sockets. */
	b->reset = poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
	return socket_options_dump(fd, plain, ARRAY_SIZE(plain), &b->option, &b->n_option, err);
}

int unix_options_restore(int fd, const Cpx__UnixSocket *b, struct err *err)
{
	int r = 0;

	socket_set_buffer(fd, SO_SNDBUF, b->sndbuf);
	socket_set_buffer(fd, SO_RCVBUF, b->rcvbuf);
	if (b->passcred)
		r = socket_set_int(fd, SO_PASSCRED, 1);
	if (r == 0 && b->passsec)
		r = socket_set_int(fd, SO_PASSSEC, 1);
	if (r == 0 && b->rcvlowat > 1)
		r = socket_set_int(fd, SO_RCVLOWAT, b->rcvlowat);
	if (r == 0)
		r = set_timeout(fd, SO_RCVTIMEO, b->rcvtimeo_us);
	if (r == 0)
		r = set_timeout(fd, SO_SNDTIMEO, b->sndtimeo_us);
	if (r == 0 && b->peek_off)
		r = socket_set_int(fd, SO_PEEK_OFF, b->peek_off - 1);
	if (r < 0)
		return err_sys(err, r, "cannot set the options of a Unix socket");
	r = socket_options_restore(fd, plain, ARRAY_SIZE(plain), b->option, b->n_option, err);
	return r < 0 ? r : socket_filter_restore(fd, &b->filter, err);
}
