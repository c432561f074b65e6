/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A userfaultfd(2) of the address space of a frozen task, in our hands. A midwife that shares the
 * memory, but not the descriptors, makes it, we take it over with pidfd_getfd(2), she ends: so
 * there is no moment at which the task has a descriptor more, and when we die nobody holds it any
 * more and the kernel undoes whatever was registered (fs/userfaultfd.c, userfaultfd_release).
 *
 * UFFD_USER_MODE_ONLY needs no privilege; the writes of the kernel to memory that is only watched
 * (UFFD_FEATURE_WP_ASYNC) are no faults for anybody to handle, and are seen all the same.
 */
#include "tracee/tracee_priv.h"

#include "base/kabi.h"
#include "base/util.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LANE_HOST, LANE_MIDWIFE };

#define NO_PID 0x7fffffffU

static int post_midwife(struct tracee *t, struct err *err)
{
	struct batch b = lane_batch(&t->mailbox, LANE_MIDWIFE);

	BATCH_CALL(&b, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | KABI_UFFD_USER_MODE_ONLY);
	return lane_post(mailbox_lane(&t->mailbox, LANE_MIDWIFE), &b, err);
}

/* As with twins: her pid goes straight into the argument of the wait4 that follows. */
static int post_host(struct tracee *t, struct err *err)
{
	struct batch b = tracee_batch(t);
	uint64_t wait_arg =
		mailbox_lane_remote(&t->mailbox, LANE_HOST) + offsetof(struct lane, call[1].arg[0]);

	BATCH_CALL(&b, SYS_clone, CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_PARENT_SETTID, 0,
		   wait_arg, 0, 0, mailbox_lane_remote(&t->mailbox, LANE_MIDWIFE));
	BATCH_CALL(&b, SYS_wait4, NO_PID, 0, __WALL, 0);
	t->inject->has_midwife = true;
	return tracee_post(t, &b, err);
}

#define LIFE_CHECK_MS 20

/* Until she has made it, or there is no midwife: then the host is through at once. */
static int await_birth(struct tracee *t, struct err *err)
{
	struct lane *midwife = mailbox_lane(&t->mailbox, LANE_MIDWIFE);
	struct lane *host = mailbox_lane(&t->mailbox, LANE_HOST);

	while (!lane_is_done(midwife, LIFE_CHECK_MS))
		if (lane_is_done(host, 0) || stop_is_zombie(t->inject->host->tid))
			return err_set(err, -ECHILD, "its midwife is gone");
	return 0;
}

static int take_over(struct tracee *t, int *ret_fd, struct err *err)
{
	struct batch host = tracee_batch(t), midwife = lane_batch(&t->mailbox, LANE_MIDWIFE);
	int64_t pid = batch_ret(&host, 0), fd = batch_ret(&midwife, 0);
	_cleanup_close_ int pidfd = -1;

	if (fd < 0)
		return err_sys(err, (int)fd, "cannot watch its memory (userfaultfd)");
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (pidfd < 0)
		return err_sys(err, -errno, "cannot open a pidfd of its midwife");
	*ret_fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)fd, 0);
	return *ret_fd < 0 ? err_sys(err, -errno, "cannot take over its userfaultfd") : 0;
}

static int dismiss(struct tracee *t, struct err *err)
{
	struct batch b = lane_batch(&t->mailbox, LANE_MIDWIFE);
	int r;

	BATCH_CALL(&b, SYS_exit, 0);
	r = lane_post(mailbox_lane(&t->mailbox, LANE_MIDWIFE), &b, err);
	if (r == 0)
		r = inject_wait(t, err);
	if (r == 0)
		t->inject->has_midwife = false;
	return r;
}

static int deliver(struct tracee *t, int *ret_fd, struct err *err)
{
	int r = post_midwife(t, err), r2;

	if (r == 0)
		r = post_host(t, err);
	if (r == 0)
		r = await_birth(t, err);
	if (r)
		return r;
	r = take_over(t, ret_fd, err);
	r2 = dismiss(t, r ? NULL : err);
	if (r == 0 && r2)
		cleanup_close(ret_fd);
	return r ? r : r2;
}

int tracee_watch(struct tracee *t, int *ret_fd, struct err *err)
{
	struct lane *midwife = mailbox_lane(&t->mailbox, LANE_MIDWIFE);
	int r = seccomp_may_have_twin(t->inject->host, err);

	if (r == 0 && !tracee_may_call(t->inject->host, SYS_userfaultfd))
		r = err_set(err, -EOPNOTSUPP, "its seccomp filters forbid userfaultfd");
	if (r == 0)
		r = lane_init(midwife, err);
	if (r)
		return err_context(err, "task %d (%s)", t->pid, t->comm);
	*ret_fd = -1;
	r = deliver(t, ret_fd, err);
	lane_retire(midwife);
	return r ? err_context(err, "task %d (%s)", t->pid, t->comm) : 0;
}
