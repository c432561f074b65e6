/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asks sock_diag(7) about one Unix socket by its inode. Sees the sockets of cpx's own network
 * namespace only. */
#include "res/files.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

struct request {
	struct nlmsghdr nlh;
	struct unix_diag_req req;
};

static int ask(int fd, uint32_t ino, struct err *err)
{
	struct request r = {
		.nlh = {.nlmsg_len = sizeof(r),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST},
		.req = {.sdiag_family = AF_UNIX,
			.udiag_states = ~0U,
			.udiag_ino = ino,
			.udiag_show = UDIAG_SHOW_PEER,
			.udiag_cookie = {~0U, ~0U}},
	};

	return send(fd, &r, sizeof(r), 0) < 0
		       ? err_sys(err, -errno, "cannot ask about Unix sockets")
		       : 0;
}

static void take_attributes(const struct unix_diag_msg *msg, size_t len, struct unix_diag_info *ret)
{
	/* RTA_NEXT() wants a pointer that it may change and a signed length */
	const struct rtattr *a = (const void *)(msg + 1);
	int left = (int)len - (int)sizeof(*msg);

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(a) >= sizeof(uint32_t)) {
			uint32_t ino;

			memcpy(&ino, RTA_DATA(a), sizeof(ino));
			ret->has_peer = true;
			ret->peer_ino = ino;
		} else if (a->rta_type == UNIX_DIAG_SHUTDOWN && RTA_PAYLOAD(a) >= 1) {
			ret->shutdown = *(const uint8_t *)RTA_DATA(a);
		}
	}
}

static int take(const struct nlmsghdr *h, size_t len, struct unix_diag_info *ret, struct err *err)
{
	if (!NLMSG_OK(h, len))
		return err_set(err, -EBADMSG, "sock_diag gave an answer that cannot be read");
	if (h->nlmsg_type == NLMSG_ERROR)
		return err_sys(err, ((const struct nlmsgerr *)NLMSG_DATA(h))->error,
			       "sock_diag does not know this Unix socket (CONFIG_UNIX_DIAG, "
			       "network namespace)");
	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
		return err_set(err, -EBADMSG, "sock_diag gave an answer that cannot be read");
	*ret = (struct unix_diag_info){
		.state = ((const struct unix_diag_msg *)NLMSG_DATA(h))->udiag_state};
	take_attributes(NLMSG_DATA(h), h->nlmsg_len - NLMSG_HDRLEN, ret);
	return 0;
}

int unix_diag_get(int *fd, uint32_t ino, struct unix_diag_info *ret, struct err *err)
{
	union {
		struct nlmsghdr nlh;
		char buf[4096];
	} answer;
	ssize_t n;
	int r;

	if (*fd < 0)
		*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (*fd < 0)
		return err_sys(err, -errno, "cannot open a sock_diag socket");
	r = ask(*fd, ino, err);
	if (r < 0)
		return r;
	n = recv(*fd, &answer, sizeof(answer), 0);
	return n < 0 ? err_sys(err, -errno, "cannot ask about Unix sockets")
		     : take(&answer.nlh, n, ret, err);
}
