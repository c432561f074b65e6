/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * POSIX message queues: descriptors of mq_open(3), by name like files, or of queues that were
 * unlinked since, which all descriptors of one inode share.
 *
 * Carried: name, limits, mode and owner, access mode, O_NONBLOCK. A queue that is still there is
 * opened again, one that is not (after a reboot, in a new IPC namespace) is made.
 * Reads mq_getattr(3).
 *
 * What is in it: mqcontent.c; who is to be told: mqnotify.c.
 */
#include "res/mqcontent.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/mqueue.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define MQUEUE_MAGIC 0x19800202 /* ipc/mqueue.c */

static ProtobufCMessage *mqueue_body(const Cpx__File *f)
{
	return f->mqueue ? &f->mqueue->base : NULL;
}

static bool mqueue_match(const struct fd_probe *p)
{
	struct statfs fs;

	return S_ISREG(p->st.st_mode) && fstatfs(p->dup, &fs) == 0 && fs.f_type == MQUEUE_MAGIC;
}

/* Always close-on-exec; O_CLOEXEC itself would become a flag of the description. */
static int queue_open(const char *name, uint32_t flags, mode_t mode, struct mq_attr *attr)
{
	int fd = syscall(SYS_mq_open, name, flags & ~(uint32_t)O_CLOEXEC, mode, attr);

	return fd < 0 ? -errno : fd;
}

static int queue_attr(int fd, struct mq_attr *ret, struct err *err)
{
	if (syscall(SYS_mq_getsetattr, fd, NULL, ret) < 0)
		return err_sys(err, -errno, "cannot read the attributes of a message queue");
	return 0;
}

/* ---- dump ---- */

static void queue_name(const struct fd_probe *p, char *buf, size_t size)
{
	static const char deleted[] = " (deleted)";
	const char *slash = strrchr(p->link, '/');
	size_t len;

	snprintf(buf, size, "%.255s", slash ? slash + 1 : p->link);
	len = strlen(buf);
	if (p->st.st_nlink == 0 && len >= sizeof(deleted) &&
	    strcmp(buf + len - (sizeof(deleted) - 1), deleted) == 0)
		buf[len - (sizeof(deleted) - 1)] = '\0';
}

/* Of the IPC namespace in which cpx, and a restore, finds names. */
static bool is_under_its_name(const struct fd_probe *p, const char *name)
{
	_cleanup_close_ int fd = queue_open(name, (p->flags & O_ACCMODE) | O_NONBLOCK, 0, NULL);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == p->st.st_dev &&
	       st.st_ino == p->st.st_ino;
}

static int refuse_state(struct dump_ctx *c, const struct fd_probe *p, const Cpx__Mqueue *b,
			const char *name)
{
	if (!b->unlinked && !is_under_its_name(p, name))
		return files_refuse(c, p, "message queue",
				    "cannot be checkpointed: '/%s' leads to another queue", name);
	return 0;
}

static int mqueue_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__Mqueue *b = f->mqueue = MSG_NEW(Cpx__Mqueue, cpx__mqueue__init);
	struct mq_attr attr = {0};
	char name[NAME_MAX + 1];
	bool is_notified = false;
	int r = b ? queue_attr(p->dup, &attr, err) : err_nomem(err);

	if (r < 0)
		return r;
	b->ino = p->st.st_ino;
	b->maxmsg = attr.mq_maxmsg;
	b->msgsize = attr.mq_msgsize;
	b->mode = p->st.st_mode & 07777;
	b->uid = p->st.st_uid;
	b->gid = p->st.st_gid;
	b->unlinked = p->st.st_nlink == 0;
	queue_name(p, name, sizeof(name));
	if (msg_set_bytes(&b->name, name, strlen(name)) < 0)
		return err_nomem(err);
	r = refuse_state(c, p, b, name);
	if (r == 0)
		r = mqnotify_is_on(p->dup, &is_notified, err);
	if (r == 0 && (b->unlinked || attr.mq_curmsgs || is_notified))
		r = files_watch_more(c, f, p->link, WATCH_DEVICE, p->st.st_dev, err);
	return r;
}

static bool is_sibling(const Cpx__File *a, const Cpx__File *b)
{
	return b->mqueue && b->mqueue->ino == a->mqueue->ino &&
	       b->mqueue->unlinked == a->mqueue->unlinked;
}

/* All are there: the first of a queue that nobody outside has holds its content. */
static int mqueue_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);
	_cleanup_close_ int fd = -1;
	struct mq_attr attr = {0};
	int r;

	for (size_t i = 0; files_get(c, i) != f; i++)
		if (is_sibling(f, files_get(c, i)))
			return 0;
	if (c->refusals->n)
		return 0;
	fd = e->in_flight >= 0 ? fcntl(e->in_flight, F_DUPFD_CLOEXEC, 0)
			       : (int)syscall(SYS_pidfd_getfd, e->t->pidfd, e->fd, 0);
	if (fd < 0)
		return err_sys(err, -errno, "cannot duplicate a message queue");
	r = queue_attr(fd, &attr, err);
	if (r == 0)
		r = mqnotify_dump(c, f, fd, attr.mq_curmsgs, err);
	return r < 0 || !attr.mq_curmsgs || c->refusals->n
		       ? r
		       : mqcontent_dump(c, f, attr.mq_curmsgs, err);
}

/* ---- restore ---- */

static int name_text(const Cpx__Mqueue *b, char *buf, size_t size, struct err *err)
{
	int r = path_text(&b->name, buf, size, err);

	if (r == 0 && (!buf[0] || strchr(buf, '/')))
		r = err_set(err, -EBADMSG, "the image holds a message queue with a bad name");
	return r;
}

static int check_existing(struct restore_ctx *c, const Cpx__File *f, const char *name, int fd,
			  struct err *err)
{
	const Cpx__Mqueue *b = f->mqueue;
	struct mq_attr attr = {0};
	int r = queue_attr(fd, &attr, err);
	pid_t user = 0;

	if (r < 0)
		return r;
	if (attr.mq_maxmsg != b->maxmsg || attr.mq_msgsize != b->msgsize)
		return files_refuse_restore(c, f, "message queue",
					    "cannot be restored: '/%s' is of another size now",
					    name);
	if (attr.mq_curmsgs || f->mqueue->n_message)
		user = mqcontent_user(c, fd);
	if (user)
		return files_refuse_restore(c, f, "message queue",
					    "cannot be restored: there are messages in '/%s', and "
					    "process %d uses it",
					    name, user);
	return 0;
}

static int mqueue_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char name[NAME_MAX + 1];
	int r = name_text(f->mqueue, name, sizeof(name), err);

	if (r < 0 || f->mqueue->unlinked || c->new_ipc_ns)
		return r;
	fd = queue_open(name, (f->flags & O_ACCMODE) | O_NONBLOCK, 0, NULL);
	if (fd >= 0)
		return check_existing(c, f, name, fd, err);
	return fd == -ENOENT
		       ? 0
		       : files_refuse_restore(c, f, "message queue",
					      "cannot be restored: '/%s': %s", name, strerror(-fd));
}

static int give_node(struct restore_ctx *c, int fd, const Cpx__Mqueue *b, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "cannot examine a message queue");
	/* In a user namespace other owners do not exist. */
	if ((st.st_uid != b->uid || st.st_gid != b->gid) && fchown(fd, b->uid, b->gid) < 0 &&
	    !c->in_user_ns)
		return err_sys(err, -errno, "cannot give a message queue to user %u", b->uid);
	return fchmod(fd, b->mode) < 0
		       ? err_sys(err, -errno, "cannot set the mode of a message queue")
		       : 0;
}

static int queue_make(struct restore_ctx *c, const char *name, const Cpx__Mqueue *b,
		      struct err *err)
{
	struct mq_attr attr = {.mq_maxmsg = b->maxmsg, .mq_msgsize = b->msgsize};
	int fd = queue_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr), r;

	if (fd < 0)
		return err_sys(err, fd, "cannot make the message queue '/%s'", name);
	r = give_node(c, fd, b, err);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* All that the tree has of one queue, of which fd is a description of ours. */
static int open_siblings(struct restore_ctx *c, const Cpx__File *f, int fd, struct err *err)
{
	for (size_t i = 0; i < c->image->nfiles; i++) {
		if (!is_sibling(f, c->image->file[i]) || c->file_fd[i] >= 0)
			continue;
		c->file_fd[i] = file_reopen(c, fd, c->image->file[i]->flags, err);
		if (c->file_fd[i] < 0)
			return c->file_fd[i];
	}
	return 0;
}

/* Under its old name if that is free, because the name is still seen; else under one of ours. */
static int make_unlinked(struct restore_ctx *c, const char *name, const Cpx__Mqueue *b,
			 struct err *err)
{
	char other[64];
	int fd = queue_make(c, name, b, err);

	if (fd == -EEXIST) {
		snprintf(other, sizeof(other), "cpx-%d-%llu", getpid(), (unsigned long long)b->ino);
		name = other;
		fd = queue_make(c, name, b, err);
	}
	if (fd >= 0 && syscall(SYS_mq_unlink, name) < 0) {
		close(fd);
		return err_sys(err, -errno, "cannot unlink the message queue '/%s'", name);
	}
	return fd;
}

static int open_named(struct restore_ctx *c, const Cpx__File *f, const char *name, struct err *err)
{
	int fd = queue_open(name, (f->flags & O_ACCMODE) | O_NONBLOCK, 0, NULL);

	if (fd == -ENOENT)
		return queue_make(c, name, f->mqueue, err);
	return fd < 0 ? err_sys(err, fd, "cannot open the message queue '/%s'", name) : fd;
}

static int mqueue_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	const Cpx__Mqueue *b = f->mqueue;
	char name[NAME_MAX + 1];
	int r = name_text(b, name, sizeof(name), err), fd;

	if (r < 0)
		return r;
	fd = b->unlinked ? make_unlinked(c, name, b, err) : open_named(c, f, name, err);
	if (fd < 0)
		return fd;
	_cleanup_close_ int own = fd;

	r = mqcontent_clear(c, b, own, err);
	if (r == 0)
		r = open_siblings(c, f, own, err);
	*ret_fd = c->file_fd[files_index(c, f)];
	return r;
}

/* With a descriptor of our own, whatever those of the tree may do. */
static int mqueue_fill(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	_cleanup_close_ int fd = -1;

	if (!f->mqueue->n_message)
		return 0;
	fd = file_reopen(c, c->file_fd[files_index(c, f)], O_WRONLY | O_NONBLOCK, err);
	return fd < 0 ? fd : mqcontent_fill(f->mqueue, fd, err);
}

static int mqueue_settle(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
			 struct batch *b, struct err *err)
{
	mqnotify_settle(f->mqueue, task, fd, b);
	return 0;
}

const struct file_ops mqueue_file_ops = {
	.name = "message queue",
	.body = mqueue_body,
	.match = mqueue_match,
	.dump = mqueue_dump,
	.complete = mqueue_complete,
	.check = mqueue_check,
	.open = mqueue_open,
	.fill = mqueue_fill,
	.settle = mqueue_settle,
};
