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

/* Remembered as they are; in a new socket all are zero but SO_PASSRIGHTS. */
static const struct {
	int option;
	uint8_t len, fresh;
} plain[] = {
	{SO_KEEPALIVE, sizeof(int), 0},	  {SO_BROADCAST, sizeof(int), 0},
	{SO_REUSEADDR, sizeof(int), 0},	  {SO_OOBINLINE, sizeof(int), 0},
	{SO_PRIORITY, sizeof(int), 0},	  {SO_TIMESTAMP, sizeof(int), 0},
	{SO_TIMESTAMPNS, sizeof(int), 0}, {SO_LINGER, sizeof(struct linger), 0},
	{SO_PASSPIDFD, sizeof(int), 0},	  {SO_PASSRIGHTS, sizeof(int), 1},
};

int unix_get_option(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -errno : value;
}

int unix_set_option(int fd, int option, int value)
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

static int append_option(Cpx__UnixSocket *b, int option, const void *value, size_t len)
{
	Cpx__UnixOption *o = MSG_NEW(Cpx__UnixOption, cpx__unix_option__init);

	if (!o || msg_append(&b->option, &b->n_option, o) < 0) {
		free(o);
		return -ENOMEM;
	}
	o->option = option;
	return msg_set_bytes(&o->value, value, len);
}

static int dump_plain(int fd, size_t i, Cpx__UnixSocket *b)
{
	uint8_t value[sizeof(struct linger)] = {0}, fresh[sizeof(value)] = {plain[i].fresh};
	socklen_t len = plain[i].len;

	if (getsockopt(fd, SOL_SOCKET, plain[i].option, value, &len) < 0 || len != plain[i].len ||
	    memcmp(value, fresh, len) == 0)
		return 0;
	return append_option(b, plain[i].option, value, len);
}

int unix_options_dump(int fd, Cpx__UnixSocket *b, struct err *err)
{
	struct pollfd pfd = {.fd = fd};
	int r = 0;

	b->sndbuf = unix_get_option(fd, SO_SNDBUF);
	b->rcvbuf = unix_get_option(fd, SO_RCVBUF);
	b->passcred = unix_get_option(fd, SO_PASSCRED) > 0;
	b->passsec = unix_get_option(fd, SO_PASSSEC) > 0;
	b->rcvlowat = unix_get_option(fd, SO_RCVLOWAT);
	b->rcvtimeo_us = get_timeout(fd, SO_RCVTIMEO);
	b->sndtimeo_us = get_timeout(fd, SO_SNDTIMEO);
	b->peek_off = MAX(unix_get_option(fd, SO_PEEK_OFF), -1) + 1;
	/* SO_ERROR would say which error, and forget it. There is but one for these sockets. */
	b->reset = poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLERR);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(plain); i++)
		r = dump_plain(fd, i, b);
	return r < 0 ? err_nomem(err) : 0;
}

static void set_buffer(int fd, int option, int force, uint32_t value)
{
	/* The kernel doubles what it is given. A size beyond the limit needs CAP_NET_ADMIN; without
	 * it the largest allowed is set. */
	if (unix_get_option(fd, option) != (int)value && unix_set_option(fd, force, value / 2) < 0)
		unix_set_option(fd, option, value / 2);
}

/* Of those that the table knows. */
static int set_plain(int fd, const Cpx__UnixOption *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (plain[i].option == (int)o->option && plain[i].len == o->value.len)
			return setsockopt(fd, SOL_SOCKET, o->option, o->value.data, o->value.len) <
					       0
				       ? -errno
				       : 0;
	return -EINVAL;
}

int unix_options_restore(int fd, const Cpx__UnixSocket *b, struct err *err)
{
	int r = 0;

	set_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, b->sndbuf);
	set_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, b->rcvbuf);
	if (b->passcred)
		r = unix_set_option(fd, SO_PASSCRED, 1);
	if (r == 0 && b->passsec)
		r = unix_set_option(fd, SO_PASSSEC, 1);
	if (r == 0 && b->rcvlowat > 1)
		r = unix_set_option(fd, SO_RCVLOWAT, b->rcvlowat);
	if (r == 0)
		r = set_timeout(fd, SO_RCVTIMEO, b->rcvtimeo_us);
	if (r == 0)
		r = set_timeout(fd, SO_SNDTIMEO, b->sndtimeo_us);
	if (r == 0 && b->peek_off)
		r = unix_set_option(fd, SO_PEEK_OFF, b->peek_off - 1);
	for (size_t i = 0; r == 0 && i < b->n_option; i++)
		r = set_plain(fd, b->option[i]);
	return r < 0 ? err_sys(err, r, "cannot set the options of a Unix socket") : 0;
}
