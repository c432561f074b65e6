/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * eventfd(2): the counter and whether it is a semaphore. Reads fdinfo (eventfd-count; since
 * Linux 6.5 eventfd-semaphore, without which a dump is refused: nothing else tells that consumes
 * nothing). Refused: an eventfd that a process outside of the tree has too.
 */
#include "res/files.h"

#include <sys/eventfd.h>

static ProtobufCMessage *eventfd_body(const Cpx__File *f)
{
	return f->eventfd ? &f->eventfd->base : NULL;
}

static bool eventfd_match(const struct fd_probe *p)
{
	return anon_is(p, "[eventfd]");
}

static int dump_state(struct dump_ctx *c, const struct fd_probe *p, Cpx__EventFd *b,
		      const char *info, struct err *err)
{
	uint64_t semaphore;

	if (!proc_field_u64(info, "eventfd-count", 16, &b->count))
		return err_set(err, -EBADMSG, "fdinfo shows no eventfd-count");
	if (!proc_field_u64(info, "eventfd-semaphore", 10, &semaphore))
		return files_refuse(c, p, "eventfd",
				    "cannot be checkpointed: this kernel does not show whether it "
				    "is a semaphore; Linux 6.5 does");
	b->semaphore = semaphore;
	if (b->count == UINT64_MAX)
		return files_refuse(c, p, "eventfd",
				    "cannot be checkpointed: its counter has overflowed, which "
				    "only the kernel can bring about");
	return 0;
}

static int eventfd_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct proc_fdinfo info = {0};
	int r;

	f->eventfd = MSG_NEW(Cpx__EventFd, cpx__event_fd__init);
	if (!f->eventfd)
		return err_nomem(err);
	files_watch_same(c);
	r = anon_info(c, p, &info, err);
	if (r == 0)
		r = dump_state(c, p, f->eventfd, info.text, err);
	proc_fdinfo_release(&info);
	return r;
}

static int eventfd_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	const Cpx__EventFd *b = f->eventfd;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (b->semaphore ? EFD_SEMAPHORE : 0));

	if (fd >= 0 && b->count && eventfd_write(fd, b->count) < 0) {
		err_sys(err, -errno, "cannot be given its counter");
		close(fd);
		return err ? err->code : -EINVAL;
	}
	return anon_finish(c, f, fd, ret_fd, err);
}

const struct file_ops eventfd_file_ops = {
	.name = "eventfd",
	.body = eventfd_body,
	.match = eventfd_match,
	.dump = eventfd_dump,
	.check = anon_check,
	.open = eventfd_open,
};
