/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signalfd(2): the mask, from fdinfo (sigmask). The signals themselves are queued at the tasks and
 * carried with them (signals.c).
 */
#include "res/files.h"

#include <fcntl.h>
#include <sys/syscall.h>

static ProtobufCMessage *signalfd_body(const Cpx__File *f)
{
	return f->signalfd ? &f->signalfd->base : NULL;
}

static bool signalfd_match(const struct fd_probe *p)
{
	return anon_is(p, "[signalfd]");
}

static int signalfd_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			 struct err *err)
{
	struct proc_fdinfo info = {0};
	int r;

	f->signalfd = MSG_NEW(Cpx__SignalFd, cpx__signal_fd__init);
	if (!f->signalfd)
		return err_nomem(err);
	r = anon_info(c, p, &info, err);
	if (r == 0 && !proc_field_u64(info.text, "sigmask", 16, &f->signalfd->mask))
		r = err_set(err, -EBADMSG, "fdinfo shows no sigmask");
	proc_fdinfo_release(&info);
	return r;
}

static int signalfd_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	uint64_t mask = f->signalfd->mask; /* as the kernel has it: bit 0 is signal 1 */

	return anon_finish(c, f, syscall(SYS_signalfd4, -1, &mask, sizeof(mask), O_CLOEXEC), ret_fd,
			   err);
}

const struct file_ops signalfd_file_ops = {
	.name = "signalfd",
	.body = signalfd_body,
	.match = signalfd_match,
	.dump = signalfd_dump,
	.check = anon_check,
	.open = signalfd_open,
};
