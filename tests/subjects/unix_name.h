/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of Unix sockets, for the subjects about them. */
#ifndef UNIX_NAME_H
#define UNIX_NAME_H

#include "subject.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

struct unix_name {
	struct sockaddr_un sun;
	socklen_t len;
};

/* "@x" is abstract, and made unique; "" is none. */
static inline struct unix_name unix_named(const char *text)
{
	struct unix_name n = {.sun.sun_family = AF_UNIX};
	size_t head = offsetof(struct sockaddr_un, sun_path);

	if (*text == '@')
		n.len = head + 1 +
			snprintf(n.sun.sun_path + 1, sizeof(n.sun.sun_path) - 1, "cpx-%s-%d",
				 text + 1, getpid());
	else if (*text)
		n.len = head + 1 + snprintf(n.sun.sun_path, sizeof(n.sun.sun_path), "%s", text);
	else
		n.len = head;
	return n;
}

static inline struct sockaddr *unix_sa(struct unix_name *n)
{
	return (struct sockaddr *)&n->sun;
}

static inline int unix_bound(int type, struct unix_name *n)
{
	int fd = MUST(socket(AF_UNIX, type, 0));

	MUST(bind(fd, unix_sa(n), n->len));
	return fd;
}

static inline void unix_check_name(int fd, bool is_peer, const struct unix_name *want)
{
	struct unix_name got = {.len = sizeof(got.sun)};

	MUST(is_peer ? getpeername(fd, unix_sa(&got), &got.len)
		     : getsockname(fd, unix_sa(&got), &got.len));
	CHECK_EQ(got.len, want->len);
	CHECK(memcmp(&got.sun, &want->sun, got.len) == 0, "%s name '%s', not '%s'",
	      is_peer ? "peer" : "own", got.sun.sun_path + 1, want->sun.sun_path + 1);
}

static inline struct ucred unix_peer(int fd)
{
	struct ucred c = {0};
	socklen_t len = sizeof(c);

	MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
	return c;
}

static inline void unix_check_peer(int fd, const struct ucred *want)
{
	struct ucred c = unix_peer(fd);

	CHECK_EQ(c.pid, want->pid);
	CHECK_EQ(c.uid, want->uid);
	CHECK_EQ(c.gid, want->gid);
}

static inline void unix_say(int from, int to, const char *text)
{
	char buf[100] = "";

	CHECK_EQ(send(from, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	CHECK_EQ(recv(to, buf, sizeof(buf), 0), strlen(text));
	CHECK(!strcmp(buf, text), "'%s', not '%s'", buf, text);
}

static inline void unix_hear(int fd, const char *text)
{
	char buf[100] = "";

	CHECK_EQ(recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT), strlen(text));
	CHECK(!strcmp(buf, text), "'%s', not '%s'", buf, text);
}

#endif
