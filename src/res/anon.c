/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kinds of anonymous inode (eventfd, timerfd, signalfd, epoll ...) share: they are told
 * by the text of their link, their state stands in fdinfo, and they are made by a system call and
 * given their status flags afterwards.
 */
#include "res/files.h"

#include <fcntl.h>

bool anon_is(const struct fd_probe *p, const char *name)
{
	static const char prefix[] = "anon_inode:";

	return strncmp(p->link, prefix, sizeof(prefix) - 1) == 0 &&
	       strcmp(p->link + sizeof(prefix) - 1, name) == 0;
}

int anon_info(struct dump_ctx *c, const struct fd_probe *p, struct proc_fdinfo *ret,
	      struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = proc_open(c->proc_fd, getpid(), 0, &dir, err);

	return r < 0 ? r : proc_fdinfo(dir, p->dup, ret, err);
}

int anon_finish(struct restore_ctx *c, const Cpx__File *f, int fd, int *ret_fd, struct err *err)
{
	const int settable = O_APPEND | O_NONBLOCK | O_NOATIME;

	if (fd < 0)
		return err_sys(err, -errno, "cannot be made");
	fd = fd_raise(c, fd, err);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETFL, (int)f->flags & settable) < 0) {
		close(fd);
		return err_sys(err, -errno, "cannot be given its flags");
	}
	*ret_fd = fd;
	return 0;
}

int anon_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	return 0;
}
