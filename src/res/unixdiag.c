/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unix sockets as sock_diag(7) lists them: all at the first question (one answer for one socket
 * costs the kernel a walk through all of them). Sees the sockets of cpx's own network namespace
 * only.
 */
#include "res/files.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

#define ANSWER_MAX (64 << 10)

struct request {
	struct nlmsghdr nlh;
	struct unix_diag_req req;
};

static int ask(int fd, struct err *err)
{
	struct request r = {
		.nlh = {.nlmsg_len = sizeof(r),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
		.req = {.sdiag_family = AF_UNIX,
			.udiag_states = ~0U,
			.udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_VFS | UDIAG_SHOW_ICONS |
				      UDIAG_SHOW_RQLEN | UDIAG_SHOW_NAME},
	};

	return send(fd, &r, sizeof(r), 0) < 0
		       ? err_sys(err, -errno, "cannot ask about Unix sockets")
		       : 0;
}

static int add_waiting(struct unix_diag *d, uint32_t listener, const struct rtattr *a)
{
	for (size_t i = 0; i < RTA_PAYLOAD(a) / sizeof(uint32_t); i++) {
		struct unix_waiting w = {.listener = listener};

		memcpy(&w.client, (const uint8_t *)RTA_DATA(a) + i * sizeof(w.client),
		       sizeof(w.client));
		if (grow(&d->waiting, &d->maxwaiting, d->nwaiting, sizeof(*d->waiting)) < 0)
			return -ENOMEM;
		d->waiting[d->nwaiting++] = w;
	}
	return 0;
}

static void take_attribute(const struct rtattr *a, struct unix_diag_info *ret)
{
	size_t len = RTA_PAYLOAD(a);
	struct unix_diag_rqlen rq;
	struct unix_diag_vfs vfs;
	uint32_t ino;

	if (a->rta_type == UNIX_DIAG_PEER && len >= sizeof(ino)) {
		memcpy(&ino, RTA_DATA(a), sizeof(ino));
		ret->has_peer = true;
		ret->peer_ino = ino;
	} else if (a->rta_type == UNIX_DIAG_SHUTDOWN && len >= 1) {
		ret->shutdown = *(const uint8_t *)RTA_DATA(a);
	} else if (a->rta_type == UNIX_DIAG_VFS && len >= sizeof(vfs)) {
		memcpy(&vfs, RTA_DATA(a), sizeof(vfs));
		ret->has_file = true;
		ret->file_ino = vfs.udiag_vfs_ino;
	} else if (a->rta_type == UNIX_DIAG_RQLEN && len >= sizeof(rq)) {
		memcpy(&rq, RTA_DATA(a), sizeof(rq));
		ret->backlog = rq.udiag_wqueue; /* of listeners */
	} else if (a->rta_type == UNIX_DIAG_NAME && len <= sizeof(ret->name)) {
		memcpy(ret->name, RTA_DATA(a), len);
		ret->name_len = ret->name[0] ? strnlen(ret->name, len) : len;
	}
}

static int add(struct unix_diag *d, const struct nlmsghdr *h)
{
	const struct unix_diag_msg *msg = NLMSG_DATA(h);
	struct unix_diag_info info = {
		.ino = msg->udiag_ino, .state = msg->udiag_state, .type = msg->udiag_type};
	/* RTA_NEXT() wants a pointer that it may change and a signed length */
	const struct rtattr *a = (const void *)(msg + 1);
	int left = (int)h->nlmsg_len - NLMSG_HDRLEN - (int)sizeof(*msg);

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		take_attribute(a, &info);
		if (a->rta_type == UNIX_DIAG_ICONS && add_waiting(d, info.ino, a) < 0)
			return -ENOMEM;
	}
	if (grow(&d->info, &d->max, d->n, sizeof(*d->info)) < 0)
		return -ENOMEM;
	d->info[d->n++] = info;
	return 0;
}

/* 1: that was the last of the answer. */
static int take(struct unix_diag *d, const struct nlmsghdr *h, size_t len, struct err *err)
{
	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return err_sys(err, ((const struct nlmsgerr *)NLMSG_DATA(h))->error,
				       "sock_diag does not list Unix sockets (CONFIG_UNIX_DIAG)");
		if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
		    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
			return err_set(err, -EBADMSG,
				       "sock_diag gave an answer that cannot be read");
		if (add(d, h) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct unix_diag_info *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int load(struct unix_diag *d, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	_cleanup_free_ char *buf = malloc(ANSWER_MAX);
	int r;

	if (!buf)
		return err_nomem(err);
	if (fd < 0)
		return err_sys(err, -errno, "cannot open a sock_diag socket");
	r = ask(fd, err);
	while (r == 0) {
		ssize_t n = recv(fd, buf, ANSWER_MAX, 0);

		r = n < 0 ? err_sys(err, -errno, "cannot ask about Unix sockets")
			  : take(d, (const void *)buf, n, err);
	}
	if (r > 0 && d->n)
		qsort(d->info, d->n, sizeof(*d->info), compare);
	return MIN(r, 0);
}

int unix_diag_load(struct unix_diag *d, struct err *err)
{
	int r = d->is_loaded ? 0 : load(d, err);

	d->is_loaded |= r == 0;
	return r;
}

int unix_diag_get(struct unix_diag *d, uint32_t ino, struct unix_diag_info *ret, struct err *err)
{
	const struct unix_diag_info key = {.ino = ino}, *found;
	int r = unix_diag_load(d, err);

	if (r < 0)
		return r;
	found = d->n ? bsearch(&key, d->info, d->n, sizeof(key), compare) : NULL;
	if (!found)
		return err_set(err, -ENOENT, "it is in another network namespace");
	*ret = *found;
	return 0;
}

uint32_t unix_diag_listener(const struct unix_diag *d, uint32_t client)
{
	for (size_t i = 0; i < d->nwaiting; i++)
		if (d->waiting[i].client == client)
			return d->waiting[i].listener;
	return 0;
}

void unix_diag_release(struct unix_diag *d)
{
	free(d->info);
	free(d->waiting);
	*d = (struct unix_diag){0};
}
