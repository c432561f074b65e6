/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SO_PEERCRED: the kernel remembers who made a connection, a pair or a listener. At restore those
 * calls are made by a short-lived child that has the recorded PID (clone3(2) with set_tid, before
 * the tree is there) and ids, and shares our descriptors.
 *
 * Cannot keep: SO_PEERPIDFD (that process has ended), SO_PEERGROUPS; a PID that another process has
 * or that was not visible: then the calls are made by cpx.
 */
#include "res/unix.h"

#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLONE_FILES
#define CLONE_FILES 0x400
#endif

Cpx__UnixCred *unix_cred_new(const struct ucred *cred)
{
	Cpx__UnixCred *c = MSG_NEW(Cpx__UnixCred, cpx__unix_cred__init);

	if (!c)
		return NULL;
	c->pid = cred->pid;
	c->uid = cred->uid;
	c->gid = cred->gid;
	return c;
}

int unix_cred_get(int fd, Cpx__UnixCred **ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid == (uid_t)-1)
		return 0;
	*ret = unix_cred_new(&cred);
	return *ret ? 0 : -ENOMEM;
}

/* In the child: only what the socket will remember. */
static int become(const Cpx__UnixCred *cred)
{
	if (cred->gid != getegid() && syscall(SYS_setresgid, -1, cred->gid, -1) < 0)
		return -errno;
	if (cred->uid != geteuid() && syscall(SYS_setresuid, -1, cred->uid, -1) < 0)
		return -errno;
	return 0;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}

static int in_child(pid_t tid, const Cpx__UnixCred *cred, int (*fn)(void *arg), void *arg)
{
	struct clone_args a = {.flags = CLONE_FILES};
	pid_t pid;
	int r;

	if (tid) {
		a.set_tid = (uintptr_t)&tid;
		a.set_tid_size = 1;
	}
	pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid == 0) {
		r = cred ? become(cred) : 0;
		_exit(r < 0 ? -r : -fn(arg)); /* errno values fit in a status */
	}
	return pid < 0 ? -errno : wait_for(pid);
}

int unix_apart(int (*fn)(void *arg), void *arg)
{
	return in_child(0, NULL, fn, arg);
}

/* Whether a child with this PID can be had at all: without an error of fn mixed in. */
static int nothing(void *arg)
{
	return 0;
}

static bool has_our_ids(const Cpx__UnixCred *cred)
{
	return cred->uid == geteuid() && cred->gid == getegid();
}

int unix_as(const Cpx__UnixCred *cred, int (*fn)(void *arg), void *arg)
{
	if (!cred)
		return fn(arg);
	if (cred->pid && cred->pid != (uint32_t)getpid() &&
	    in_child(cred->pid, NULL, nothing, NULL) == 0)
		return in_child(cred->pid, cred, fn, arg);
	/* The ids at least. */
	return has_our_ids(cred) ? fn(arg) : in_child(0, cred, fn, arg);
}
