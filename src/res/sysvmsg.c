/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SysV message queues (msgctl(2)): messages, msg_qbytes, who sent and received last. Reads
 * MSG_STAT_ANY and, without taking them out, the messages (MSG_COPY of msgrcv(2), a kernel with
 * CONFIG_CHECKPOINT_RESTORE). Whose a queue is: sysvipc.c.
 */
#include "res/sysvipc.h"

#include <stdio.h>
#include <sys/msg.h>
#include <sys/syscall.h>

#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
#define CONTENT_MAX (16UL << 20) /* of one queue */
#define COUNT_MAX   65536

static const char name[] = "SysV message queue";

struct message {
	long type;
	char text[];
};

/* ---- dump ---- */

static int add_message(Cpx__MsgQueue *q, const struct message *m, size_t len)
{
	Cpx__IpcMessage *msg = MSG_NEW(Cpx__IpcMessage, cpx__ipc_message__init);

	if (!msg || msg_set_bytes(&msg->text, m->text, len) < 0 ||
	    msg_append(&q->message, &q->n_message, msg) < 0) {
		free(msg);
		return -ENOMEM;
	}
	msg->type = m->type;
	return 0;
}

/* -errno. The kernel copies as much as it is given room for. */
static int read_messages(int id, const struct msqid_ds *ds, Cpx__MsgQueue *q)
{
	_cleanup_free_ struct message *m = calloc(1, sizeof(*m) + ds->__msg_cbytes + 1);

	for (size_t i = 0; m && i < ds->msg_qnum; i++) {
		ssize_t n = is_denied("msg_copy")
				    ? (errno = ENOSYS, -1)
				    : msgrcv(id, m, ds->__msg_cbytes, i, MSG_COPY | IPC_NOWAIT);
		int r = n < 0 ? -errno : add_message(q, m, n);

		if (r < 0)
			return r;
	}
	return m ? 0 : -ENOMEM;
}

static const char *reason(int error)
{
	switch (error) {
	case -ENOSYS:
		return "this kernel shows its messages to nobody (CONFIG_CHECKPOINT_RESTORE)";
	case -EACCES:
		return "it may not be read";
	case -EINVAL:
		return "a message is longer than kernel.msgmax allows by now";
	default:
		return "its messages cannot be read";
	}
}

static int dump_content(const struct ipc_look *l, int id, const struct msqid_ds *ds,
			enum ipc_owner owner, Cpx__MsgQueue *q, struct err *err)
{
	int r;

	if (ds->__msg_cbytes > CONTENT_MAX || ds->msg_qnum > COUNT_MAX)
		r = ipc_refuse(l->c, name, id, "there is too much in it (%lu messages, %lu bytes)",
			       (unsigned long)ds->msg_qnum, (unsigned long)ds->__msg_cbytes);
	else if ((r = read_messages(id, ds, q)) == -ENOMEM)
		return err_nomem(err);
	else if (r < 0)
		r = ipc_refuse(l->c, name, id, "%s", reason(r));
	q->qbytes = ds->msg_qbytes;
	q->last_sender = ds->msg_lspid;
	q->last_receiver = ds->msg_lrpid;
	return r < 0 ? err_nomem(err) : ipc_perm_dump(&ds->msg_perm, id, owner, &q->perm, err);
}

static int dump_queue(const struct ipc_look *l, int id, const struct msqid_ds *ds,
		      enum ipc_owner owner, struct err *err)
{
	Cpx__MsgQueue *q = MSG_NEW(Cpx__MsgQueue, cpx__msg_queue__init);
	int r = q ? dump_content(l, id, ds, owner, q, err) : err_nomem(err);

	if (r == 0 && msg_append(&l->info->msg_queue, &l->info->n_msg_queue, q) < 0)
		r = err_nomem(err);
	if (r < 0 && q)
		cpx__msg_queue__free_unpacked(q, NULL);
	return r;
}

static int look_at(const struct ipc_look *l, int id, const struct msqid_ds *ds, struct err *err)
{
	static const long calls[] = {SYS_msgsnd, SYS_msgrcv};
	const uint32_t pids[] = {ds->msg_lspid, ds->msg_lrpid};
	const struct ipc_seen seen = {.kind = name,
				      .id = id,
				      .perm = &ds->msg_perm,
				      .changed = ds->msg_ctime,
				      .used = MAX(ds->msg_stime, ds->msg_rtime),
				      .last_pid = pids,
				      .npids = ARRAY_SIZE(pids),
				      .calls = calls,
				      .ncalls = ARRAY_SIZE(calls)};
	enum ipc_owner owner;
	int r = ipc_judge(l, &seen, &owner, err);

	return r < 0 || owner == IPC_FOREIGN ? r : dump_queue(l, id, ds, owner, err);
}

int sysvmsg_dump(const struct ipc_look *l, struct err *err)
{
	struct msginfo info;
	int last = msgctl(0, MSG_INFO, (struct msqid_ds *)&info), r = 0;

	for (int i = 0; i <= last && r == 0; i++) {
		struct msqid_ds ds;
		int id = msgctl(i, MSG_STAT_ANY, &ds);

		if (id >= 0)
			r = look_at(l, id, &ds, err);
	}
	return r;
}

/* ---- restore: check ---- */

static unsigned long limit(const char *file)
{
	_cleanup_fclose_ FILE *f = fopen(file, "re");
	unsigned long ret = 0;

	return f && fscanf(f, "%lu", &ret) == 1 ? ret : ULONG_MAX;
}

static size_t longest(const Cpx__MsgQueue *q)
{
	size_t max = 0;

	for (size_t i = 0; i < q->n_message; i++)
		max = MAX(max, q->message[i]->text.len);
	return max;
}

static uint64_t content(const Cpx__MsgQueue *q)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < q->n_message; i++)
		sum += q->message[i]->text.len;
	return MAX(sum, q->n_message);
}

/* A new IPC namespace has the kernel's defaults, and only root may go beyond (CAP_SYS_RESOURCE). */
int sysvmsg_check_limits(struct restore_ctx *c, const Cpx__MsgQueue *q, bool exists,
			 struct err *err)
{
	unsigned long max = c->new_ipc_ns ? 8192 : limit("/proc/sys/kernel/msgmax");
	unsigned long room = c->new_ipc_ns ? 16384 : limit("/proc/sys/kernel/msgmnb");
	int r = 0;

	if (q->perm->unclaimed)
		return 0;
	if (longest(q) > max)
		r = ipc_refuse_restore(c, name, q->perm->id,
				       "it has a message of %zu bytes, and kernel.msgmax is %lu",
				       longest(q), max);
	if (r == 0 && MAX(q->qbytes, content(q)) > room && !c->is_privileged && !exists)
		r = ipc_refuse_restore(c, name, q->perm->id,
				       "it is larger than kernel.msgmnb (%lu): only root may "
				       "make it so",
				       room);
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- restore ---- */

static int queue_get(const void *record, key_t key, int flags)
{
	return msgget(key, flags);
}

static int queue_remove(int id)
{
	return msgctl(id, IPC_RMID, NULL);
}

static int queue_examine(int id, struct ipc_perm *ret_perm, pid_t *ret_user)
{
	struct msqid_ds ds;
	time_t when;

	if (msgctl(id, IPC_STAT, &ds) < 0)
		return -errno;
	when = MAX(ds.msg_ctime, MAX(ds.msg_stime, ds.msg_rtime));
	*ret_perm = ds.msg_perm;
	*ret_user = 0;
	if (ds.msg_lspid && ipc_is_alive(-1, ds.msg_lspid, when))
		*ret_user = ds.msg_lspid;
	if (ds.msg_lrpid && ipc_is_alive(-1, ds.msg_lrpid, when))
		*ret_user = ds.msg_lrpid;
	return 0;
}

static bool queue_is_same(const void *record, int id)
{
	return true;
}

static int set_attributes(const Cpx__MsgQueue *q, const Cpx__IpcPerm *p, uint64_t qbytes)
{
	struct msqid_ds ds = {.msg_qbytes = qbytes,
			      .msg_perm = {.uid = p->uid, .gid = p->gid, .mode = p->mode}};

	return msgctl(q->perm->id, IPC_SET, &ds) < 0 ? -errno : 0;
}

static int send_empty(const void *arg)
{
	const Cpx__MsgQueue *q = arg;
	long type = 1;

	return msgsnd(q->perm->id, &type, 0, IPC_NOWAIT) < 0 ? -errno : 0;
}

static int receive_empty(const void *arg)
{
	const Cpx__MsgQueue *q = arg;
	long type;

	return msgrcv(q->perm->id, &type, 0, 0, IPC_NOWAIT) < 0 ? -errno : 0;
}

struct sending {
	const Cpx__MsgQueue *q;
	struct message *buf; /* fits the longest */
};

static int send_all(const void *arg)
{
	const struct sending *s = arg;

	for (size_t i = 0; i < s->q->n_message; i++) {
		const Cpx__IpcMessage *m = s->q->message[i];

		s->buf->type = m->type;
		if (m->text.len)
			memcpy(s->buf->text, m->text.data, m->text.len);
		if (msgsnd(s->q->perm->id, s->buf, m->text.len, IPC_NOWAIT) < 0)
			return -errno;
	}
	return 0;
}

static void drain(int id)
{
	long type;

	while (msgrcv(id, &type, 0, 0, MSG_NOERROR | IPC_NOWAIT) >= 0)
		;
}

static bool is_message(const Cpx__MsgQueue *q, size_t i, struct message *buf, size_t room)
{
	const Cpx__IpcMessage *m = q->message[i];
	ssize_t n = msgrcv(q->perm->id, buf, room, i, MSG_COPY | IPC_NOWAIT);

	return n == (ssize_t)m->text.len && buf->type == m->type &&
	       (n == 0 || memcmp(buf->text, m->text.data, n) == 0);
}

/* Has nobody touched it since? */
static bool is_filled(const Cpx__MsgQueue *q, struct message *buf)
{
	struct msqid_ds ds;
	bool ret = msgctl(q->perm->id, IPC_STAT, &ds) == 0 && ds.msg_qnum == q->n_message &&
		   ds.msg_lspid == (pid_t)q->last_sender && ds.msg_lrpid == (pid_t)q->last_receiver;

	for (size_t i = 0; ret && i < q->n_message; i++)
		ret = is_message(q, i, buf, longest(q));
	return ret;
}

/* An empty message goes through the queue first, if anybody has received one. */
static int refill(const Cpx__MsgQueue *q)
{
	struct sending s = {.q = q, .buf = malloc(sizeof(*s.buf) + longest(q) + 1)};
	bool is_done = s.buf && is_filled(q, s.buf);
	int r = s.buf ? 0 : -ENOMEM;

	if (is_done || !s.buf) {
		free(s.buf);
		return r;
	}
	drain(q->perm->id);
	if (q->last_receiver)
		r = stand_in_run(q->last_sender, send_empty, q);
	if (r == 0 && q->last_receiver)
		r = stand_in_run(q->last_receiver, receive_empty, q);
	if (r == 0 && q->n_message)
		r = stand_in_run(q->last_sender, send_all, &s);
	free(s.buf);
	return r;
}

static int queue_fill(struct restore_ctx *c, const void *record, int id, struct err *err)
{
	const Cpx__MsgQueue *q = record;
	const Cpx__IpcPerm ours = {.uid = geteuid(), .gid = getegid(), .mode = 0600};
	Cpx__IpcPerm nearly = *q->perm;
	int r = set_attributes(q, &ours, MAX(q->qbytes, content(q)));

	if (r == 0)
		r = refill(q);
	if (r < 0)
		return err_sys(err, r, "cannot fill it");
	r = set_attributes(q, q->perm, q->qbytes);
	nearly.uid = ours.uid;
	nearly.gid = ours.gid;
	if (r == -EINVAL && c->in_user_ns) /* others do not exist there */
		r = set_attributes(q, &nearly, q->qbytes);
	return r < 0 ? err_sys(err, r, "cannot set owner and mode") : 0;
}

const struct ipc_kind sysvmsg_kind = {
	.name = name,
	.next_id = "msg_next_id",
	.get = queue_get,
	.remove = queue_remove,
	.examine = queue_examine,
	.is_same = queue_is_same,
	.fill = queue_fill,
};
