/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Working directory, root directory, umask. Reads /proc/TID/{cwd,root,status}.
 *
 * Directories are kept by name, deleted ones as ghostdir.c says. Refused: one that its name does not
 * lead to (mounted over, in another mount namespace, unreachable).
 */
#include "res/attr.h"
#include "res/ghostdir.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const char *why_lost(int dir, const char *link, const char *path)
{
	struct stat there, here;

	if (fstatat(dir, link, &there, 0) < 0)
		return "it cannot be examined";
	if (path[0] != '/')
		return "it is out of reach";
	if (stat(path, &here) < 0 || here.st_dev != there.st_dev || here.st_ino != there.st_ino)
		return "its name leads elsewhere (mounted over, or in another mount namespace)";
	return NULL;
}

/* Cuts the path to the name. 1: it was deleted. */
static int read_deleted(int dir, const char *link, char *path, Cpx__Directory **ret, struct err *err)
{
	char other[PATH_MAX];
	struct stat st;
	int r;

	if (fstatat(dir, link, &st, 0) < 0 ||
	    path_examine(path, &st, other, sizeof(other)) != PATH_DELETED || path[0] != '/')
		return 0;
	r = ghostdir_dump(path, &st, ret, err);
	return r < 0 ? r : 1;
}

static int read_directory(struct dump_ctx *c, const struct tracee *t, int dir, const char *link,
			  const char *what, ProtobufCBinaryData *ret, Cpx__Directory **ret_deleted,
			  struct err *err)
{
	char path[PATH_MAX + 16], object[PATH_MAX + 64];
	const char *why;
	int r = proc_link(dir, link, path, sizeof(path), err);

	if (r < 0)
		return r;
	r = read_deleted(dir, link, path, ret_deleted, err);
	if (r < 0)
		return r;
	why = r ? NULL : why_lost(dir, link, path);
	if (why) {
		snprintf(object, sizeof(object), "%s '%s'", what, path);
		return attr_refuse(c, t, object, err, "cannot be checkpointed: %s", why);
	}
	return msg_set_bytes(ret, path, strlen(path)) < 0 ? err_nomem(err) : 0;
}

static int fs_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		   Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	_cleanup_close_ int dir = -1;
	const struct proc_status *status;
	int r = attr_open(c, t, NULL, &dir, err);

	if (r == 0)
		r = attr_status(c, t, NULL, &status, err);
	if (r < 0)
		return r;
	task->fs = MSG_NEW(Cpx__Fs, cpx__fs__init);
	if (!task->fs)
		return err_nomem(err);
	task->fs->umask = status->umask;
	r = read_directory(c, t, dir, "root", "root directory", &task->fs->root,
			   &task->fs->deleted_root, err);
	return r < 0 ? r
		     : read_directory(c, t, dir, "cwd", "working directory", &task->fs->cwd,
				      &task->fs->deleted_cwd, err);
}

static bool is_path(const ProtobufCBinaryData *p)
{
	return p->len > 0 && p->len < PATH_MAX && p->data[0] == '/' && !memchr(p->data, 0, p->len);
}

/* buf: PATH_MAX bytes. */
static const char *path_of(const ProtobufCBinaryData *p, char *buf)
{
	size_t len = MIN(p->len, (size_t)PATH_MAX - 1);

	if (len)
		memcpy(buf, p->data, len);
	buf[len] = '\0';
	return buf;
}

static int check_deleted(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Directory *d,
			 const char *what, struct err *err)
{
	char above[PATH_MAX];
	const char *why = ghostdir_why_not(d, above, err);

	return why ? attr_refuse_restore(c, task, what, err, "cannot be restored: %s: '%s'", why,
					 above)
		   : 0;
}

static int check_directory(struct restore_ctx *c, const Cpx__Task *task,
			   const ProtobufCBinaryData *p, const Cpx__Directory *deleted,
			   const char *what, struct err *err)
{
	char path[PATH_MAX], object[PATH_MAX + 64];
	struct stat st;

	if (!is_path(p))
		return err_set(err, -EBADMSG, "%s of task %u is no path", what, task->pid);
	if (deleted)
		return check_deleted(c, task, deleted, what, err);
	snprintf(object, sizeof(object), "%s '%s'", what, path_of(p, path));
	if (stat(path, &st) < 0)
		return attr_refuse_restore(c, task, object, err, "cannot be restored: %s",
					   strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return attr_refuse_restore(c, task, object, err,
					   "cannot be restored: not a directory");
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		return attr_refuse_restore(c, task, object, err, "cannot be restored: %s",
					   strerror(errno));
	return 0;
}

static bool is_chrooted(const Cpx__Fs *fs)
{
	return fs->root.len != 1 || fs->deleted_root;
}

static int fs_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		    struct err *err)
{
	int r;

	if (!task->fs)
		return 0;
	r = check_directory(c, task, &task->fs->cwd, task->fs->deleted_cwd,
				"working directory", err);
	if (r == 0)
		r = check_directory(c, task, &task->fs->root, task->fs->deleted_root,
				    "root directory", err);
	if (r == 0 && is_chrooted(task->fs) && !attr_can(c, CAP_SYS_CHROOT))
		r = attr_refuse_restore(
			c, task, "root directory", err,
			"cannot be restored: chroot needs cap_sys_chroot; restore as root");
	return r;
}

/* A deleted one is at hand in the coordinator only. */
static int way_to(struct restore_ctx *c, const ProtobufCBinaryData *p, const Cpx__Directory *deleted,
		  char path[PATH_MAX], struct err *err)
{
	int fd;

	path_of(p, path);
	if (!deleted)
		return 0;
	fd = ghostdir_fd(c, deleted, err);
	snprintf(path, PATH_MAX, "/proc/%d/fd/%d", getpid(), fd);
	return MIN(fd, 0);
}

/* Both names are as seen from our root: so the working directory comes first. */
static int fs_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		   const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	char cwd[PATH_MAX], root[PATH_MAX];
	int r;

	if (stage != GIVE_MAIN || !task->fs)
		return 0;
	r = way_to(c, &task->fs->cwd, task->fs->deleted_cwd, cwd, err);
	if (r == 0)
		r = way_to(c, &task->fs->root, task->fs->deleted_root, root, err);
	if (r < 0)
		return r;
	BATCH_CALL(b, SYS_umask, task->fs->umask);
	BATCH_CALL(b, SYS_chdir, batch_in_str(b, cwd));
	if (is_chrooted(task->fs))
		BATCH_CALL(b, SYS_chroot, batch_in_str(b, root));
	return 0;
}

static int fs_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		    const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
		    struct err *err)
{
	char path[PATH_MAX];

	for (unsigned i = 0; i < b->n && task->fs; i++) {
		int64_t r = batch_ret(b, i);

		if (r < 0 && b->call[i].nr == SYS_chdir)
			return err_sys(err, r, "cannot enter '%s'", path_of(&task->fs->cwd, path));
		if (r < 0 && b->call[i].nr == SYS_chroot)
			return err_sys(err, r, "cannot chroot to '%s'",
				       path_of(&task->fs->root, path));
	}
	return 0;
}

const struct attr_ops fs_attr_ops = {
	.name = "directories",
	.read = fs_read,
	.check = fs_check,
	.give = fs_give,
	.given = fs_given,
};
