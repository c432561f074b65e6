/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A descriptor of ours for the twin: it makes a socket pair, we take one end with pidfd_getfd(2)
 * and send the descriptor through (SCM_RIGHTS, unix(7)). It needs no /proc of the twin's, no path
 * and no right but the one to trace it, and the twin's own credentials do not matter.
 */
#include "mem/pages.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define FD_CONTROL CMSG_SPACE(sizeof(int))

static int twin_failed(struct err *err, int64_t code, const char *what)
{
	return err_sys(err, (int)code, "its twin cannot %s", what);
}

static int make_pair(struct twin *w, int32_t pair[2], struct err *err)
{
	struct batch b = twin_batch(w);
	uint64_t out = batch_out(&b, 2 * sizeof(int32_t));
	int r;

	BATCH_CALL(&b, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, out);
	r = twin_run(w, &b, err);
	if (r < 0)
		return r;
	if (batch_ret(&b, 0) < 0)
		return twin_failed(err, batch_ret(&b, 0), "make a socket pair");
	memcpy(pair, batch_local(&b, out), 2 * sizeof(int32_t));
	return 0;
}

static int send_fd(int socket, int fd, struct err *err)
{
	union {
		char buf[FD_CONTROL];
		struct cmsghdr align;
	} control = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(socket, &m, MSG_NOSIGNAL) < 0)
		return err_sys(err, -errno, "cannot send its twin a descriptor");
	return 0;
}

static int send_to(struct twin *w, int32_t end, int fd, struct err *err)
{
	_cleanup_close_ int ours = (int)syscall(SYS_pidfd_getfd, w->pidfd, end, 0);

	if (ours < 0)
		return err_sys(err, -errno, "cannot take over a descriptor of its twin");
	return send_fd(ours, fd, err);
}

/* The twin receives and closes the pair. */
static int receive(struct twin *w, const int32_t pair[2], int *ret_fd, struct err *err)
{
	struct batch b = twin_batch(w);
	uint64_t byte = batch_out(&b, 1), control = batch_out(&b, FD_CONTROL);
	struct iovec iov = {(void *)(uintptr_t)byte, 1};
	uint64_t riov = batch_in(&b, &iov, sizeof(iov));
	struct msghdr m = {
		.msg_iov = (void *)(uintptr_t)riov,
		.msg_iovlen = 1,
		.msg_control = (void *)(uintptr_t)control,
		.msg_controllen = FD_CONTROL,
	};
	uint64_t message = batch_in(&b, &m, sizeof(m));
	const struct cmsghdr *c = batch_local(&b, control);
	int r, fd;

	BATCH_CALL(&b, SYS_recvmsg, (uint32_t)pair[1], message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	BATCH_CALL(&b, SYS_close, (uint32_t)pair[0]);
	BATCH_CALL(&b, SYS_close, (uint32_t)pair[1]);
	r = twin_run(w, &b, err);
	if (r < 0)
		return r;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (batch_ret(&b, 0) < 0)
		return twin_failed(err, batch_ret(&b, 0), "receive a descriptor");
	if (c->cmsg_len != CMSG_LEN(sizeof(int)) || c->cmsg_type != SCM_RIGHTS)
		return twin_failed(err, -EMFILE, "receive a descriptor");
	*ret_fd = fd;
	return 0;
}

int twin_send_fd(struct twin *w, int fd, int *ret_fd, struct err *err)
{
	int32_t pair[2] = {-1, -1};
	int r = make_pair(w, pair, err);

	if (r == 0)
		r = send_to(w, pair[0], fd, err);
	return r < 0 ? r : receive(w, pair, ret_fd, err);
}

/* Reads the limits of its own and makes the soft one the hard one. */
uint64_t twin_file_limit(struct twin *w)
{
	struct batch b = twin_batch(w);
	struct rlimit limit;
	uint64_t at = batch_out(&b, sizeof(limit));

	BATCH_CALL(&b, SYS_prlimit64, 0, RLIMIT_FSIZE, 0, at);
	if (twin_run(w, &b, NULL) < 0 || batch_ret(&b, 0) < 0)
		return 0;
	memcpy(&limit, batch_local(&b, at), sizeof(limit));
	if (limit.rlim_cur == limit.rlim_max)
		return limit.rlim_max;
	limit.rlim_cur = limit.rlim_max;
	b = twin_batch(w);
	at = batch_in(&b, &limit, sizeof(limit));
	BATCH_CALL(&b, SYS_prlimit64, 0, RLIMIT_FSIZE, at, 0);
	if (twin_run(w, &b, NULL) < 0 || batch_ret(&b, 0) < 0)
		return 0;
	return limit.rlim_max;
}
