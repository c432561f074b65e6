/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pidfd_open(2): of processes and threads of the tree, zombies too, and of processes that have
 * ended and were reaped. Reads fdinfo (Pid), asks PIDFD_GET_INFO how a reaped one has ended
 * (Linux 6.15).
 *
 * A process that is still to be made has no pidfd: ours stands in for it, and each task that has it
 * opens its own before it gets its descriptors. So tasks that shared one description get one each,
 * which only their O_NONBLOCK could show; inode numbers differ. Refused: processes outside of the
 * tree.
 */
#include "base/kabi.h"
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OPEN_FLAGS (O_NONBLOCK | O_EXCL) /* PIDFD_NONBLOCK, PIDFD_THREAD */

static ProtobufCMessage *pidfd_body(const Cpx__File *f)
{
	return f->pidfd ? &f->pidfd->base : NULL;
}

static bool pidfd_match(const struct fd_probe *p)
{
	return anon_is(p, "[pidfd]") || strncmp(p->link, "pidfd:[", 7) == 0;
}

/* ---- dump ---- */

static void dump_exit(const struct fd_probe *p, Cpx__PidFd *b)
{
	struct kabi_pidfd_info info = {.mask = KABI_PIDFD_INFO_EXIT};

	if (ioctl(p->dup, KABI_PIDFD_GET_INFO, &info) == 0 && info.mask & KABI_PIDFD_INFO_EXIT)
		b->exit_code = info.exit_code & 0xffff;
}

static int dump_pid(struct dump_ctx *c, const struct fd_probe *p, Cpx__PidFd *b, const char *info,
		    struct err *err)
{
	uint64_t pid;

	if (strstr(info, "\nPid:\t-1\n")) {
		dump_exit(p, b);
		return 0;
	}
	if (!proc_field_u64(info, "Pid", 10, &pid))
		return err_set(err, -EBADMSG, "fdinfo shows no Pid");
	b->pid = pid;
	if (files_tree_has(c, pid) || (p->flags & O_EXCL && files_tree_has_thread(c, pid)))
		return 0;
	if (!pid)
		return files_refuse(
			c, p, "pidfd",
			"cannot be checkpointed: it is of a process of another PID namespace");
	return files_refuse(
		c, p, "pidfd",
		"cannot be checkpointed: it is of process %d, which is outside of the tree; "
		"dump a common parent of both",
		(int)pid);
}

static int pidfd_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct proc_fdinfo info = {0};
	int r;

	f->pidfd = MSG_NEW(Cpx__PidFd, cpx__pid_fd__init);
	if (!f->pidfd)
		return err_nomem(err);
	r = anon_info(c, p, &info, err);
	if (r == 0)
		r = dump_pid(c, p, f->pidfd, info.text, err);
	proc_fdinfo_release(&info);
	return r;
}

/* ---- restore ---- */

/* In a child: the same end. */
static _Noreturn void end_like(uint32_t status)
{
	struct rlimit none = {0};
	int signo = WTERMSIG(status);
	sigset_t set;

	if (signo) {
		setrlimit(RLIMIT_CORE, &none);
		signal(signo, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, signo);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		raise(signo);
	}
	_exit(WEXITSTATUS(status));
}

/* A process that has ended; errno is set on failure. */
static int open_dead(const Cpx__File *f)
{
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		return -1;
	if (pid == 0)
		end_like(f->pidfd->exit_code);
	fd = syscall(SYS_pidfd_open, pid, f->flags & OPEN_FLAGS);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

static int pidfd_open_file(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = f->pidfd->pid ? (int)syscall(SYS_pidfd_open, getpid(), 0) : open_dead(f);

	if (fd < 0)
		return err_sys(err, -errno, "cannot be made");
	fd = fd_raise(c, fd, err);
	*ret_fd = MAX(fd, -1);
	return MIN(fd, 0);
}

/* pidfd_open(2) takes the lowest number, which we know if it is 0. */
static void install_one(struct batch *b, const Cpx__File *f, int at)
{
	BATCH_CALL(b, SYS_close_range, 0, 0, 0);
	BATCH_CALL(b, SYS_pidfd_open, f->pidfd->pid, f->flags & OPEN_FLAGS);
	BATCH_CALL(b, SYS_dup3, 0, at, O_CLOEXEC);
	BATCH_CALL(b, SYS_close, 0);
}

/* Is it of a process that had to be made first? */
static bool is_late(const Cpx__File *f)
{
	return (f->pidfd && f->pidfd->pid) || (f->proc_file && !f->proc_file->dead);
}

int pidfd_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, size_t *next,
		  struct err *err)
{
	for (; *next < c->image->nfiles; (*next)++) {
		const Cpx__File *f = c->image->file[*next];

		if (!is_late(f) || (!files_table_has(table, f->id) && !epoll_needs(c, table, f)))
			continue;
		if (batch_is_tight(b, 5, PATH_MAX))
			return 1;
		if (f->pidfd)
			install_one(b, f, c->file_fd[*next]);
		else if (procfile_install(b, f, c->file_fd[*next], err) < 0)
			return err->code;
	}
	return 0;
}

const struct file_ops pidfd_file_ops = {
	.name = "pidfd",
	.body = pidfd_body,
	.match = pidfd_match,
	.dump = pidfd_dump,
	.check = anon_check,
	.open = pidfd_open_file,
};
