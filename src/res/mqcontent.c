/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is in a POSIX message queue. Messages cannot be looked at, only received; so a task of the
 * frozen tree receives and sends them again, all in one batch, which runs to its end even if cpx
 * dies meanwhile. Nobody else may have the queue open. Lengths and priorities, which are known
 * only when the batch runs, get into its later calls by themselves: the kernel writes the priority into the
 * call that sends the message, and process_vm_readv(2) copies the results of the calls that
 * received.
 *
 * Restore: a queue that is still there and that nobody has open gets the messages of the image.
 * Cannot keep: the place among messages of the same priority of what somebody sends who opens the queue
 * by its name in that very moment; should he fill it, the dump fails, with a message that cannot be put back. Times
 * of the node.
 */
#include "res/mqcontent.h"

#include <fcntl.h>
#include <linux/mqueue.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- dump ---- */

enum { SEND_LEN = 2, SEND_PRIORITY = 3, MESSAGES_MAX = 480 };

struct reading {
	struct dump_ctx *c;
	Cpx__File *f;
	struct tracee *t;
	int fd;		 /* in t, of the queue */
	int own_fd;	 /* the number that a descriptor for both directions gets in t; -1: fd is one */
	size_t n, size;	 /* messages, room for each */
	struct batch b;
	unsigned receive, send; /* the first calls */
	uint64_t text;	 /* remote; room after room */
};

static int refuse_content(struct reading *r, const char *why)
{
	return files_refuse_entry(r->c, r->f, "message queue",
				  "cannot be checkpointed: there are messages in '/%.*s', which can "
				  "only be received and sent again, and %s",
				  (int)r->f->mqueue->name.len, (char *)r->f->mqueue->name.data,
				  why);
}

static uint64_t remote_call(const struct reading *r, unsigned call, size_t offset)
{
	return mailbox_lane_remote(&r->t->mailbox, 0) + offsetof(struct lane, call) +
	       call * sizeof(struct call) + offset;
}

static uint64_t remote_arg(const struct reading *r, unsigned call, unsigned arg)
{
	return remote_call(r, call, offsetof(struct call, arg) + arg * sizeof(uint64_t));
}

/* Copies the results of n calls to the arguments `arg` of n others. */
static void add_copies(struct reading *r, unsigned from, unsigned to, unsigned arg, size_t n)
{
	uint64_t local = batch_out(&r->b, n * sizeof(struct iovec));
	uint64_t remote = batch_out(&r->b, n * sizeof(struct iovec));

	for (size_t i = 0; !r->b.overflow && i < n; i++) {
		((struct iovec *)batch_local(&r->b, local))[i] =
			(struct iovec){(void *)remote_arg(r, to + i, arg), sizeof(uint64_t)};
		((struct iovec *)batch_local(&r->b, remote))[i] = (struct iovec){
			(void *)remote_call(r, from + i, offsetof(struct call, ret)),
			sizeof(uint64_t)};
	}
	BATCH_CALL(&r->b, SYS_process_vm_readv, r->t->pid, local, n, remote, n);
}

static int run(struct reading *r, struct err *err)
{
	return tracee_run(r->t, &r->b, err);
}

/* Whether the task may copy so: tried with a call that gives its own PID. */
int mqcontent_may_copy(struct tracee *t, bool *ret, struct err *err)
{
	struct reading reading = {.t = t, .b = tracee_batch(t)}, *r = &reading;
	unsigned call;
	int x;

	call = BATCH_CALL(&r->b, SYS_getpid);
	BATCH_CALL(&r->b, SYS_getpid);
	add_copies(r, call, call + 1, 5, 1);
	x = run(r, err);
	*ret = x == 0 && r->b.call[call + 1].arg[5] == (uint64_t)r->t->pid;
	return x;
}

static void add_open(struct reading *r)
{
	char self[48];

	if (r->own_fd < 0)
		return;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", r->fd);
	BATCH_CALL(&r->b, SYS_openat, AT_FDCWD, batch_in_str(&r->b, self),
		   O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

/* Sending waits for no room, as receiving waits for no message: the time is over. */
static void add_calls(struct reading *r)
{
	int fd = r->own_fd < 0 ? r->fd : r->own_fd;
	uint64_t past = batch_out(&r->b, sizeof(struct timespec));

	add_open(r);
	r->receive = r->b.n;
	r->send = r->receive + r->n + 1;
	r->text = batch_out(&r->b, r->n * r->size);
	for (size_t i = 0; i < r->n; i++)
		BATCH_CALL(&r->b, SYS_mq_timedreceive, fd, r->text + i * r->size, r->size,
			   remote_arg(r, r->send + i, SEND_PRIORITY), past);
	add_copies(r, r->receive, r->send, SEND_LEN, r->n);
	for (size_t i = 0; i < r->n; i++)
		BATCH_CALL(&r->b, SYS_mq_timedsend, fd, r->text + i * r->size, UINT64_MAX, 0, past);
	if (r->own_fd >= 0)
		BATCH_CALL(&r->b, SYS_close, fd);
	r->b.overflow |= batch_is_tight(&r->b, 0, 128); /* for send_again() */
}

static int add_message(struct reading *r, size_t i)
{
	Cpx__Mqueue *q = r->f->mqueue;
	Cpx__MqMessage *m = MSG_NEW(Cpx__MqMessage, cpx__mq_message__init);
	const void *text = batch_local(&r->b, r->text + i * r->size);

	if (!m || msg_set_bytes(&m->text, text, batch_ret(&r->b, r->receive + i)) < 0 ||
	    msg_append(&q->message, &q->n_message, m) < 0) {
		free(m);
		return -ENOMEM;
	}
	m->priority = r->b.call[r->send + i].arg[SEND_PRIORITY];
	return 0;
}

static bool is_lost(const struct reading *r, size_t i)
{
	return batch_ret(&r->b, r->receive + i) >= 0 && batch_ret(&r->b, r->send + i) < 0;
}

/* Somebody has come by the name and taken the room: lest messages be lost, it is waited for. The texts
 * are still where they were. */
static int send_again(struct reading *r, struct err *err)
{
	_cleanup_free_ struct call *sent = calloc(r->n + 1, sizeof(*sent));
	const struct timespec soon = {.tv_sec = time(NULL) + 5};
	size_t nlost = 0;
	uint64_t until;
	unsigned first;
	int x;

	if (!sent)
		return err_nomem(err);
	for (size_t i = 0; i < r->n; i++)
		if (is_lost(r, i))
			sent[nlost++] = r->b.call[r->send + i];
	r->b.n = 0;
	until = batch_in(&r->b, &soon, sizeof(soon));
	add_open(r);
	first = r->b.n;
	for (size_t i = 0; i < nlost; i++)
		BATCH_CALL(&r->b, SYS_mq_timedsend, sent[i].arg[0], sent[i].arg[1], sent[i].arg[2],
			   sent[i].arg[3], until);
	if (r->own_fd >= 0)
		BATCH_CALL(&r->b, SYS_close, r->own_fd);
	x = nlost ? run(r, err) : 0;
	for (size_t i = 0; i < nlost && x == 0; i++)
		if (batch_ret(&r->b, first + i) < 0)
			x = err_sys(err, (int)batch_ret(&r->b, first + i),
				    "a message could not be put back");
	return x;
}

static int take_messages(struct reading *r, struct err *err)
{
	int x = 0;

	for (size_t i = 0; i < r->n && x == 0; i++)
		if (batch_ret(&r->b, r->receive + i) >= 0 && add_message(r, i) < 0)
			x = err_nomem(err);
	return x < 0 ? x : send_again(r, err);
}

/* The lowest number that is free, which is what open(2) gives. */
int mqcontent_free_fd(struct dump_ctx *c, const struct tracee *t, int *ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ int *fd = NULL;
	size_t n = 0;
	int r = proc_open(c->proc_fd, t->pid, 0, &dir, err);

	if (r == 0)
		r = proc_fds(dir, &fd, &n, err);
	*ret = 0;
	for (size_t i = 0; r == 0 && i < n && fd[i] == *ret; i++)
		++*ret;
	return r;
}

static const char *find_obstacle(struct reading *r)
{
	const struct proc_status *st;

	if (files_entry(r->c, r->f)->in_flight >= 0 || !r->t->mailbox.local ||
	    r->t->mm_owner != r->t)
		return "no task can do that";
	if (attr_status(r->c, r->t, NULL, &st, NULL) < 0 || st->seccomp)
		return "a seccomp filter may forbid that";
	if (r->n > MESSAGES_MAX)
		return "there are too many";
	return NULL;
}

static int read_all(struct reading *r, struct err *err)
{
	bool is_possible;
	int x = mqcontent_may_copy(r->t, &is_possible, err);

	if (x < 0)
		return x;
	if (!is_possible)
		return refuse_content(r, "this kernel does not let a task do so safely");
	r->b = tracee_batch(r->t);
	add_calls(r);
	if (r->b.overflow)
		return refuse_content(r, "there is too much");
	x = run(r, err);
	return x < 0 ? x : take_messages(r, err);
}

int mqcontent_dump(struct dump_ctx *c, Cpx__File *f, size_t n, struct err *err)
{
	const struct file_entry *e = files_entry(c, f);
	struct reading r = {.c = c,
			    .f = f,
			    .t = e->t,
			    .fd = e->fd,
			    .own_fd = -1,
			    .n = n,
			    .size = ALIGN_UP((size_t)f->mqueue->msgsize, 16)};
	const char *obstacle = find_obstacle(&r);
	int x = 0;

	if (obstacle)
		return refuse_content(&r, obstacle);
	if ((f->flags & O_ACCMODE) != O_RDWR)
		x = mqcontent_free_fd(c, e->t, &r.own_fd, err);
	return x < 0 ? x : read_all(&r, err);
}

/* ---- restore ---- */

static bool has_open(int proc_fd, pid_t pid, const struct stat *queue)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ int *fd = NULL;
	struct stat st;
	size_t n = 0;
	char name[32];

	if (proc_open(proc_fd, pid, 0, &dir, NULL) < 0 || proc_fds(dir, &fd, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "fd/%d", fd[i]);
		if (fstatat(dir, name, &st, 0) == 0 && st.st_ino == queue->st_ino &&
		    st.st_dev == queue->st_dev)
			return true;
	}
	return false;
}

pid_t mqcontent_user(const struct restore_ctx *c, int fd)
{
	_cleanup_free_ pid_t *pid = NULL;
	struct stat st;
	size_t n = 0;

	if (fstat(fd, &st) < 0 || proc_pids(c->proc_fd, &pid, &n, NULL) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (pid[i] != getpid() && has_open(c->proc_fd, pid[i], &st))
			return pid[i];
	return 0;
}

/* What is left over of the tree, or of others who have gone. */
int mqcontent_clear(struct restore_ctx *c, const Cpx__Mqueue *q, int fd, struct err *err)
{
	_cleanup_free_ char *buf = malloc(q->msgsize + 1);
	_cleanup_close_ int own = -1;
	struct mq_attr attr = {0};

	if (!buf)
		return err_nomem(err);
	if (syscall(SYS_mq_getsetattr, fd, NULL, &attr) < 0 || !attr.mq_curmsgs)
		return 0;
	if (mqcontent_user(c, fd))
		return err_set(err, -EBUSY, "somebody has sent to the message queue '/%.*s'",
			       (int)q->name.len, (char *)q->name.data);
	own = file_reopen(c, fd, O_RDWR | O_NONBLOCK, err);
	if (own < 0)
		return own;
	while (syscall(SYS_mq_timedreceive, own, buf, q->msgsize, NULL, NULL) >= 0)
		;
	return 0;
}

int mqcontent_fill(const Cpx__Mqueue *q, int fd, struct err *err)
{
	for (size_t i = 0; i < q->n_message; i++) {
		const Cpx__MqMessage *m = q->message[i];

		if (syscall(SYS_mq_timedsend, fd, m->text.len ? (char *)m->text.data : "",
			    m->text.len, m->priority, NULL) < 0)
			return err_sys(err, -errno, "cannot send message %zu of '/%.*s'", i + 1,
				       (int)q->name.len, (char *)q->name.data);
	}
	return 0;
}
