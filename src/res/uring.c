/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io_uring(7): dump. Both rings with what is in them (results not yet taken, requests not yet
 * submitted, results that overflowed), registered buffers, files, eventfd and ring descriptors.
 * Reads fdinfo and, through a duplicate, the memory of the rings; uringlook.c asks for the rest.
 *
 * No request may be in flight. The kernel does not say, so they are counted: each has one result. A
 * ring whose requests may have had several or none (multishot, zero-copy, CQE_SKIP_SUCCESS) cannot be
 * counted and is refused, as are IOPOLL, NO_MMAP, provided buffers, restrictions and
 * personalities (where these can be seen).
 *
 * The kernel's counters can only be brought up by requests (uringmake.c), so their number is limited.
 */
#include "res/uring.h"

#include "base/kabi.h"

#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define SUBMITTED_MAX (1U << 28) /* half a minute to count up */

static ProtobufCMessage *uring_body(const Cpx__File *f)
{
	return f->uring ? &f->uring->base : NULL;
}

static bool uring_match(const struct fd_probe *p)
{
	return anon_is(p, "[io_uring]");
}

/* ---- mappings ---- */

bool uring_is_map(const struct proc_vma *v)
{
	return v->is_shared && strcmp(v->path, "anon_inode:[io_uring]") == 0;
}

int uring_add_map(struct dump_ctx *c, struct tracee *t, const struct proc_vma *v, Cpx__Vma *vma,
		  struct err *err)
{
	struct file_table *ft = files_table_of(c);

	if (!ft || grow(&ft->uring_map, &ft->maxuring_maps, ft->nuring_maps,
			sizeof(*ft->uring_map)) < 0)
		return err_nomem(err);
	ft->uring_map[ft->nuring_maps++] = (struct uring_map){
		.vma = vma,
		.t = t,
		.dev = makedev(v->dev_major, v->dev_minor),
		.ino = v->ino,
	};
	return 0;
}

const struct uring_map *uring_find_map(const struct dump_ctx *c, const struct tracee *t,
				       uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < c->files->nuring_maps; i++) {
		const struct uring_map *m = &c->files->uring_map[i];

		if (m->t == t && m->dev == dev && m->ino == ino &&
		    m->vma->offset != IORING_OFF_SQES)
			return m;
	}
	return NULL;
}

/* ---- refusals ---- */

static const char *const op_name[] = {
	"NOP", "READV", "WRITEV", "FSYNC", "READ_FIXED", "WRITE_FIXED", "POLL_ADD", "POLL_REMOVE",
	"SYNC_FILE_RANGE", "SENDMSG", "RECVMSG", "TIMEOUT", "TIMEOUT_REMOVE", "ACCEPT",
	"ASYNC_CANCEL", "LINK_TIMEOUT", "CONNECT", "FALLOCATE", "OPENAT", "CLOSE", "FILES_UPDATE",
	"STATX", "READ", "WRITE", "FADVISE", "MADVISE", "SEND", "RECV", "OPENAT2", "EPOLL_CTL",
	"SPLICE", "PROVIDE_BUFFERS", "REMOVE_BUFFERS", "TEE", "SHUTDOWN", "RENAMEAT", "UNLINKAT",
	"MKDIRAT", "SYMLINKAT", "LINKAT", "MSG_RING", "FSETXATTR", "SETXATTR", "FGETXATTR",
	"GETXATTR", "SOCKET", "URING_CMD", "SEND_ZC", "SENDMSG_ZC", "READ_MULTISHOT", "WAITID",
	"FUTEX_WAIT", "FUTEX_WAKE", "FUTEX_WAITV", "FIXED_FD_INSTALL", "FTRUNCATE", "BIND", "LISTEN",
	"RECV_ZC", "EPOLL_WAIT", "READV_FIXED", "WRITEV_FIXED", "PIPE",
};

static int refuse_ring(struct uring_look *l, const char *why, struct err *err)
{
	l->is_refused = true;
	return files_refuse(l->c, l->p, "io_uring", "cannot be checkpointed: %s", why) < 0
		       ? err_nomem(err)
		       : 0;
}

/* Once each, separated by commas. */
static void add_op(char *buf, size_t size, unsigned op)
{
	char name[24];
	size_t len = strlen(buf);

	if (op < ARRAY_SIZE(op_name))
		snprintf(name, sizeof(name), "%s", op_name[op]);
	else
		snprintf(name, sizeof(name), "opcode %u", op);
	if (!strstr(buf, name))
		snprintf(buf + len, size - len, "%s%s", len ? ", " : "", name);
}

/* ---- what fdinfo shows ---- */

static int read_sizes(struct uring_look *l, struct err *err)
{
	uint64_t sq, cq;

	if (!proc_field_u64(l->info, "SqMask", 16, &sq) || !proc_field_u64(l->info, "CqMask", 16, &cq))
		return ++l->c->npassing, refuse_ring(l, "the kernel is at work on it", err);
	l->b->sq_entries = sq + 1;
	l->b->cq_entries = cq + 1;
	if (strstr(l->info, "\nNAPI:\tenabled"))
		return refuse_ring(l, "it polls the network (IORING_REGISTER_NAPI)", err);
	return 0;
}

static int add_overflow(struct uring_look *l, uint64_t user_data, int32_t res, struct err *err)
{
	Cpx__UringCqe *cqe = MSG_NEW(Cpx__UringCqe, cpx__uring_cqe__init);

	if (!cqe || msg_append(&l->b->overflow, &l->b->n_overflow, cqe) < 0) {
		free(cqe);
		return err_nomem(err);
	}
	cqe->user_data = user_data;
	cqe->res = res;
	return 0;
}

static int read_overflow(struct uring_look *l, struct err *err)
{
	const char *line = strstr(l->info, "\nCqOverflowList:\n");
	unsigned long long user_data;
	unsigned flags;
	int res, r = 0;

	line = line ? strchr(line + 1, '\n') : NULL;
	while (r == 0 && line &&
	       sscanf(line, " user_data=%llu, res=%d, flags=%x", &user_data, &res, &flags) == 3) {
		if (flags || l->b->flags & IORING_SETUP_CQE32)
			return refuse_ring(l, "a result that has overflowed has flags", err);
		r = add_overflow(l, user_data, res, err);
		line = strchr(line + 1, '\n');
	}
	return r;
}

/* ---- requests in flight ---- */

static bool find_pending_polls(const char *info, char *buf, size_t size)
{
	const char *line = strstr(info, "\nPollList:\n");
	unsigned op;

	line = line ? strchr(line + 1, '\n') : NULL;
	while (line && sscanf(line, " op=%u", &op) == 1) {
		add_op(buf, size, op);
		line = strchr(line + 1, '\n');
	}
	return *buf;
}

static const struct io_uring_sqe *sqe_at(const struct uring_look *l, uint32_t n)
{
	uint32_t mask = l->b->sq_entries - 1, i = n & mask;
	size_t size = sizeof(struct io_uring_sqe) << !!(l->b->flags & IORING_SETUP_SQE128);

	if (!(l->b->flags & IORING_SETUP_NO_SQARRAY))
		i = uring_word(&l->view, l->params.sq_off.array)[i] & mask;
	return (const void *)(l->view.sqes + i * size);
}

static const struct io_uring_cqe *cqe_at(const struct uring_look *l, uint32_t n)
{
	size_t size = sizeof(struct io_uring_cqe) << !!(l->b->flags & IORING_SETUP_CQE32);

	return (const void *)(l->view.rings + l->params.cq_off.cqes +
			      (n & (l->b->cq_entries - 1)) * size);
}

static bool is_answered(const struct uring_look *l, uint64_t user_data, uint32_t completed)
{
	uint32_t n = MIN(completed, l->b->cq_entries);

	for (uint32_t i = 1; i <= n; i++)
		if (cqe_at(l, completed - i)->user_data == user_data)
			return true;
	return false;
}

/* What was submitted lately and has no result in the ring: all that there is to go by. */
static void name_unanswered(const struct uring_look *l, uint32_t submitted, uint32_t completed,
			    char *buf, size_t size)
{
	uint32_t n = MIN(submitted, MIN(l->b->sq_entries, 64U));

	for (uint32_t i = 1; i <= n; i++) {
		const struct io_uring_sqe *sqe = sqe_at(l, submitted - i);

		if (!is_answered(l, sqe->user_data, completed))
			add_op(buf, size, sqe->opcode);
	}
}

static int refuse_in_flight(struct uring_look *l, int32_t n, const char *ops, struct err *err)
{
	char why[512];

	snprintf(why, sizeof(why),
		 "%d request%s in flight%s%.300s%s; try again when they are completed", MAX(n, 1),
		 n > 1 ? "s are" : " is", *ops ? " (" : "", ops, *ops ? ")" : "");
	l->c->npassing++;
	return refuse_ring(l, why, err);
}

static bool is_uncountable(const struct uring_look *l, uint32_t submitted, uint32_t completed)
{
	for (uint32_t i = 1; i <= MIN(submitted, l->b->sq_entries); i++) {
		const struct io_uring_sqe *sqe = sqe_at(l, submitted - i);

		if (sqe->flags & IOSQE_CQE_SKIP_SUCCESS || sqe->opcode == IORING_OP_SEND_ZC ||
		    sqe->opcode == IORING_OP_SENDMSG_ZC)
			return true;
	}
	for (uint32_t i = 1; i <= MIN(completed, l->b->cq_entries); i++)
		if (cqe_at(l, completed - i)->flags & (IORING_CQE_F_MORE | IORING_CQE_F_NOTIF))
			return true;
	return false;
}

/* The kernel shows personalities until Linux 6.13 only; what has used one lately tells. */
static int read_personalities(struct uring_look *l, struct err *err)
{
	size_t size = sizeof(struct io_uring_sqe) << !!(l->b->flags & IORING_SETUP_SQE128);
	bool is_used = strstr(l->info, "\nPersonalities:\n");

	for (size_t i = 0; i < l->b->sq_entries; i++)
		is_used |= ((const struct io_uring_sqe *)(l->view.sqes + i * size))->personality != 0;
	return is_used ? refuse_ring(l, "it has personalities (IORING_REGISTER_PERSONALITY)", err)
		       : 0;
}

static int count(struct uring_look *l, struct err *err)
{
	uint64_t submitted, completed;
	char ops[400] = "";
	int32_t pending;

	if (!proc_field_u64(l->info, "CachedSqHead", 10, &submitted) ||
	    !proc_field_u64(l->info, "CachedCqTail", 10, &completed))
		return err_set(err, -EBADMSG, "fdinfo does not show its counters");
	l->b->submitted = submitted;
	pending = (int32_t)((uint32_t)submitted - (uint32_t)completed - l->b->n_overflow);
	if (find_pending_polls(l->info, ops, sizeof(ops)))
		return refuse_in_flight(l, pending, ops, err);
	if (pending < 0 || is_uncountable(l, submitted, completed))
		return refuse_ring(l,
				   "requests were made that have several results or none "
				   "(multishot, zero-copy, IOSQE_CQE_SKIP_SUCCESS): whether any is "
				   "in flight cannot be counted",
				   err);
	if (pending) {
		name_unanswered(l, submitted, completed, ops, sizeof(ops));
		return refuse_in_flight(l, pending, ops, err);
	}
	if (submitted > SUBMITTED_MAX)
		return refuse_ring(l,
				   "it has served more than 268 million requests, and a new ring "
				   "can only be brought there by as many",
				   err);
	return 0;
}

/* ---- memory ---- */

static int read_lost(struct uring_look *l, struct err *err)
{
	if (*uring_word(&l->view, l->params.sq_off.dropped) ||
	    *uring_word(&l->view, l->params.cq_off.overflow))
		return refuse_ring(l, "requests or results of it were lost", err);
	return 0;
}

static int read_memory(struct uring_look *l, struct err *err)
{
	if (msg_set_bytes(&l->b->rings, l->view.rings, l->view.rings_len) < 0 ||
	    msg_set_bytes(&l->b->sqes, l->view.sqes, l->view.sqes_len) < 0)
		return err_nomem(err);
	return 0;
}

static int refuse_disabled(struct uring_look *l, struct err *err)
{
	if (syscall(SYS_io_uring_enter, l->p->dup, 0, 0, 0, NULL, 0) == 0 || errno != EBADFD)
		return 0;
	l->c->npassing++;
	return refuse_ring(l, "it is not enabled yet (IORING_SETUP_R_DISABLED)", err);
}

static int view(struct uring_look *l, struct err *err)
{
	int r = uring_view_open(l->p->dup, l->b->sq_entries, l->b->cq_entries, &l->view, NULL);

	if (r == -EINVAL)
		return refuse_ring(l, "its rings are memory of the task (IORING_SETUP_NO_MMAP)", err);
	return r < 0 ? err_sys(err, r, "cannot map its rings") : 0;
}

static int dump_steps(struct uring_look *l, struct err *err)
{
	static int (*const steps[])(struct uring_look *l, struct err *err) = {
		read_sizes,	    refuse_disabled, view,	uring_look,
		read_personalities, read_overflow,   count,	read_lost,
		uring_read_thread,     uring_read_registered, uring_read_slots, read_memory,
	};
	int r = 0;

	if (l->p->is_in_flight)
		return refuse_ring(l, "it is on its way in a message", err);
	for (size_t i = 0; i < ARRAY_SIZE(steps) && r == 0 && !l->is_refused; i++)
		r = steps[i](l, err);
	return r;
}

static int uring_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	struct uring_look l = {.c = c, .p = p};
	struct proc_fdinfo info = {0};
	int r;

	f->uring = l.b = MSG_NEW(Cpx__Uring, cpx__uring__init);
	if (!f->uring)
		return err_nomem(err);
	files_watch_same(c);
	r = anon_info(c, p, &info, err);
	l.info = info.text;
	if (r == 0)
		r = dump_steps(&l, err);
	if (l.has_eventfd)
		l.b->eventfd = UINT32_MAX; /* which one, uring_complete() finds out */
	uring_view_close(&l.view);
	proc_fdinfo_release(&info);
	return r;
}

const struct file_ops uring_file_ops = {
	.name = "io_uring",
	.body = uring_body,
	.match = uring_match,
	.dump = uring_dump,
	.complete = uring_complete,
	.check = uring_check,
	.open = uring_open,
};
