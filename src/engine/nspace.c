/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Namespaces for a restore: user_namespaces(7) (one mapped user and group: ourselves),
 * pid_namespaces(7), time_namespaces(7), with a /proc of their own (proc(5)).
 */
#include "engine/nspace.h"

#include "base/util.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NS_PER_S 1000000000LL

/* A sibling (CLONE_PARENT) ends with our own exit signal, SIGCHLD too; clone3(2) wants none named then. */
static pid_t clone_process(uint64_t flags)
{
	struct clone_args a = {.flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD};

	return syscall(SYS_clone3, &a, sizeof(a));
}

static int write_file(const char *path, const char *text, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return err_sys(err, -errno, "cannot write %s", path);
	return 0;
}

static int make_file(const char *path, const char *text, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, 0444) < 0)
		return err_sys(err, -errno, "cannot write %s", path);
	return 0;
}

/* ---- in the starter --------------------------------------------------------------------------- */

static int map_ourselves(uid_t uid, gid_t gid, struct err *err)
{
	char line[64];
	int r = write_file("/proc/self/setgroups", "deny", err);

	snprintf(line, sizeof(line), "%u %u 1", uid, uid);
	if (r == 0)
		r = write_file("/proc/self/uid_map", line, err);
	snprintf(line, sizeof(line), "%u %u 1", gid, gid);
	return r < 0 ? r : write_file("/proc/self/gid_map", line, err);
}

static int enter_user_ns(struct err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	/* A file with capabilities made us undumpable, and our uid_map root's. */
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER) < 0)
		return err_sys(err, -errno,
			       "cannot make a user namespace (is it forbidden by user.max_user_namespaces, "
			       "kernel.unprivileged_userns_clone or a security module?)");
	return map_ourselves(uid, gid, err);
}

/* Seconds and nanoseconds with the latter positive, as the kernel wants them. */
static void split(int64_t ns, long long *sec, long long *nsec)
{
	*sec = ns / NS_PER_S;
	*nsec = ns % NS_PER_S;
	if (*nsec < 0) {
		*nsec += NS_PER_S;
		--*sec;
	}
}

static int enter_time_ns(const struct plan *p, struct err *err)
{
	long long ms, mn, bs, bn;
	char line[128];

	if (unshare(CLONE_NEWTIME) < 0)
		return err_sys(err, -errno, "cannot make a time namespace");
	split(p->monotonic_offset_ns, &ms, &mn);
	split(p->boottime_offset_ns, &bs, &bn);
	snprintf(line, sizeof(line), "monotonic %lld %lld\nboottime %lld %lld\n", ms, mn, bs, bn);
	return write_file("/proc/self/timens_offsets", line, err);
}

static int prepare(const struct plan *p, struct err *err)
{
	int r = p->new_user_ns ? enter_user_ns(err) : 0;

	return r == 0 && p->new_time_ns ? enter_time_ns(p, err) : r;
}

/* ---- in the coordinator ------------------------------------------------------------------------ */

int nspace_mount(const struct plan *p, struct err *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys(err, -errno, "cannot detach the mount namespace");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(err, -errno, "cannot mount /proc of the new PID namespace");
	if (p->new_devpts && mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
				   "newinstance,ptmxmode=0666,mode=0620") < 0)
		return err_sys(err, -errno, "cannot mount /dev/pts of its own");
	return 0;
}

/* A file of a tmpfs(5) of its own, which nobody can see but by this name. It is made below /proc, as long
 * as that is covered by the tmpfs. */
int nspace_show(const char *path, const char *text, struct err *err)
{
	int r;

	if (mount(NSPACE_OWN_FILE, "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0755") < 0)
		return err_sys(err, -errno, "cannot mount a tmpfs");
	r = make_file("/proc/file", text, err);
	if (r == 0 && mount("/proc/file", path, NULL, MS_BIND, NULL) < 0)
		r = err_sys(err, -errno, "cannot put a file of its own to '%s'", path);
	if (umount2("/proc", MNT_DETACH) < 0 && r == 0)
		r = err_sys(err, -errno, "cannot uncover /proc again");
	return r;
}

pid_t nspace_clone(const struct plan *p)
{
	return clone_process(CLONE_NEWPID | CLONE_NEWNS | (p->new_ipc_ns ? CLONE_NEWIPC : 0));
}

int nspace_survive(struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		return err_sys(err, -errno, "cannot clear the parent death signal");
	return 0;
}

static void send_failure(int channel, const struct err *err)
{
	struct report r = {.what = REPORT_FAILED, .err = *err};

	report_send(channel, &r, -1, NULL);
}

/* Until the starter has told our PID and gone, so that nothing of ours comes before it. */
static void await_starter(const int gone[2])
{
	char byte;

	close(gone[1]);
	while (read(gone[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(gone[0]);
}

static int coordinate(const struct plan *p, int (*body)(void *, int), void *arg, int channel,
		      const int gone[2])
{
	struct err err = ERR_INIT;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	await_starter(gone);
	if (p->new_pid_ns && nspace_mount(p, &err) < 0) {
		send_failure(channel, &err);
		return 1;
	}
	return body(arg, channel);
}

static void start_coordinator(const struct plan *p, int (*body)(void *, int), void *arg, int channel)
{
	struct err err = ERR_INIT;
	int gone[2];
	pid_t pid;
	uint64_t flags = CLONE_PARENT | (p->new_pid_ns ? CLONE_NEWPID | CLONE_NEWNS : 0) |
			 (p->new_ipc_ns ? CLONE_NEWIPC : 0);

	if (pipe2(gone, O_CLOEXEC) < 0) {
		err_sys(&err, -errno, "cannot make a pipe");
	} else if (prepare(p, &err) == 0) {
		pid = clone_process(flags);
		if (pid == 0)
			_exit(coordinate(p, body, arg, channel, gone));
		if (pid > 0 && send(channel, &pid, sizeof(pid), 0) == sizeof(pid))
			_exit(0);
		err_sys(&err, -errno, "cannot make a PID namespace");
	}
	send_failure(channel, &err);
	_exit(1);
}

/* ---- starting ---------------------------------------------------------------------------------- */

static int await_start(pid_t starter, int channel, pid_t *ret_pid, struct err *err)
{
	union {
		pid_t pid;
		struct report report;
	} first;
	ssize_t n = recv(channel, &first, sizeof(first), 0);

	while (waitpid(starter, NULL, 0) < 0 && errno == EINTR)
		;
	if (n == sizeof(first.pid)) {
		*ret_pid = first.pid;
		return 0;
	}
	if (n == sizeof(first.report) && first.report.what == REPORT_FAILED) {
		*err = first.report.err;
		return err->code;
	}
	return err_set(err, -EPIPE, "the coordinator could not be started");
}

int nspace_start(const struct plan *p, int (*body)(void *arg, int channel), void *arg,
		 pid_t *ret_pid, int *ret_channel, struct err *err)
{
	int pair[2], r;
	pid_t starter;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "cannot make a socket pair");
	starter = clone_process(0);
	if (starter == 0) {
		close(pair[0]);
		start_coordinator(p, body, arg, pair[1]);
	}
	close(pair[1]);
	r = starter < 0 ? err_sys(err, -errno, "cannot fork") :
			  await_start(starter, pair[0], ret_pid, err);
	if (r < 0)
		close(pair[0]);
	else
		*ret_channel = pair[0];
	return r;
}

/* ---- reports ----------------------------------------------------------------------------------- */

union fd_control {
	struct cmsghdr hdr;
	char buf[CMSG_SPACE(sizeof(int))];
};

int report_send(int channel, const struct report *r, int pidfd, struct err *err)
{
	struct iovec io = {(void *)r, sizeof(*r)};
	union fd_control c = {0};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};

	if (pidfd >= 0) {
		m.msg_control = c.buf;
		m.msg_controllen = sizeof(c.buf);
		c.hdr = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&c.hdr), &pidfd, sizeof(int));
	}
	if (sendmsg(channel, &m, MSG_NOSIGNAL) < 0)
		return err_sys(err, -errno, "cannot report to cpx");
	return 0;
}

int report_receive(int channel, struct report *ret, int *ret_pidfd, struct err *err)
{
	struct report got;
	struct iovec io = {&got, sizeof(got)};
	union fd_control c = {0};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = c.buf,
			   .msg_controllen = sizeof(c.buf)};
	ssize_t n = recvmsg(channel, &m, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EINTR ? -EINTR : err_sys(err, -errno, "cannot hear from the coordinator");
	if (n != sizeof(got))
		return err_set(err, -EPIPE, "the coordinator ended unexpectedly");
	*ret_pidfd = -1;
	if (m.msg_controllen >= CMSG_LEN(sizeof(int)) && c.hdr.cmsg_type == SCM_RIGHTS)
		memcpy(ret_pidfd, CMSG_DATA(&c.hdr), sizeof(int));
	*ret = got;
	return 0;
}

bool report_is_heard(int channel)
{
	struct pollfd p = {.fd = channel};

	return poll(&p, 1, 0) == 0 || !(p.revents & (POLLHUP | POLLERR));
}

int pidfd_to_pid(int pidfd, pid_t *ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_fdinfo info = {0};
	uint64_t pid = 0;
	int r = proc_open(-1, getpid(), 0, &dir, err);

	if (r == 0)
		r = proc_fdinfo(dir, pidfd, &info, err);
	if (r < 0)
		return r;
	if (!proc_field_u64(info.text, "Pid", 10, &pid) || !pid)
		r = err_set(err, -ESRCH, "the restored root has ended already");
	proc_fdinfo_release(&info);
	*ret = pid;
	return r;
}
