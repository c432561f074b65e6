/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is told when a message comes into an empty POSIX message queue (mq_notify(3)). read(2) of the queue shows
 * how and whom, but not the value that the signal is to carry. That is only to be had by a message: the task
 * itself sends an empty one, takes the signal and the message out of the way, and asks to be told again with the
 * value that came, all in one batch, which runs to its end even if cpx dies meanwhile. Nobody else may have the
 * queue open, and no such signal be pending.
 * Refused: SIGEV_THREAD, whose other end is a socket of the C library.
 */
#include "res/mqcontent.h"

#include <fcntl.h>
#include <linux/mqueue.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>

struct registration {
	pid_t pid; /* 0: nobody */
	int kind, signo;
};

static int field(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? atoi(at + strlen(key)) : 0;
}

/* Only a description that can be read says so. */
static int read_registration(int fd, struct registration *ret, struct err *err)
{
	_cleanup_close_ int own = -1;
	char text[256] = "", link[48];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	own = open(link, O_RDONLY | O_CLOEXEC);
	if (pread(own < 0 ? fd : own, text, sizeof(text) - 1, 0) < 0)
		return err_sys(err, -errno, "cannot read the state of a message queue");
	*ret = (struct registration){field(text, "NOTIFY_PID:"), field(text, "NOTIFY:"),
				     field(text, "SIGNO:")};
	return 0;
}

int mqnotify_is_on(int fd, bool *ret, struct err *err)
{
	struct registration who = {0};
	int r = read_registration(fd, &who, err);

	*ret = who.pid != 0;
	return r;
}

static int refuse_notify(struct dump_ctx *c, const Cpx__File *f, const char *why)
{
	return files_refuse_entry(c, f, "message queue",
				  "cannot be checkpointed: somebody waits for a message in '/%.*s' "
				  "by mq_notify(3), %s",
				  (int)f->mqueue->name.len, (char *)f->mqueue->name.data, why);
}

/* ---- the value ---- */

/* A siginfo_t; with the value in it begins what mq_notify(2) is given. */
struct told {
	uint8_t before[24];
	struct {
		uint64_t value;
		uint32_t signo, kind;
		uint8_t rest[48];
	} event;
	uint8_t after[128];
};
_Static_assert(offsetof(siginfo_t, si_value) == 24, "si_value is elsewhere");

struct probing {
	struct tracee *t;
	int fd;
	struct registration who;
	struct batch b;
	uint64_t told;
	unsigned wait, again;
};

static uint64_t at(const struct probing *p, size_t offset)
{
	return p->told + offset;
}

/* Signal and kind, which the kernel has written over. */
static void add_rest(struct probing *p)
{
	const uint32_t rest[2] = {p->who.signo, SIGEV_SIGNAL};
	struct iovec to = {(void *)at(p, offsetof(struct told, event.signo)), sizeof(rest)};
	struct iovec from = {(void *)batch_in(&p->b, rest, sizeof(rest)), sizeof(rest)};
	uint64_t local = batch_in(&p->b, &to, sizeof(to));

	BATCH_CALL(&p->b, SYS_process_vm_readv, p->t->pid, local, 1,
		   batch_in(&p->b, &from, sizeof(from)), 1);
}

static void add_calls(struct probing *p, int own_fd, size_t msgsize)
{
	const uint64_t set = 1ULL << (p->who.signo - 1);
	uint64_t past = batch_out(&p->b, sizeof(struct timespec));
	char self[48];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", p->fd);
	p->told = batch_out(&p->b, sizeof(struct told));
	BATCH_CALL(&p->b, SYS_openat, AT_FDCWD, batch_in_str(&p->b, self),
		   O_RDWR | O_CLOEXEC | O_NONBLOCK);
	BATCH_CALL(&p->b, SYS_mq_timedsend, own_fd, past, 0, 0, past);
	p->wait = BATCH_CALL(&p->b, SYS_rt_sigtimedwait, batch_in(&p->b, &set, sizeof(set)),
			     p->told, past, sizeof(set));
	BATCH_CALL(&p->b, SYS_mq_timedreceive, own_fd, batch_out(&p->b, msgsize), msgsize, 0, past);
	/* To close any of its descriptors would end a registration of the task. */
	BATCH_CALL(&p->b, SYS_close, own_fd);
	add_rest(p);
	p->again = BATCH_CALL(&p->b, SYS_mq_notify, p->fd, at(p, offsetof(struct told, event)));
}

static int probe(struct probing *p, int own_fd, Cpx__File *f, struct err *err)
{
	const struct told *told;
	const siginfo_t *info;
	int r;

	p->b = tracee_batch(p->t);
	add_calls(p, own_fd, f->mqueue->msgsize);
	r = tracee_run(p->t, &p->b, err);
	if (r < 0)
		return r;
	told = batch_local(&p->b, p->told);
	info = (const siginfo_t *)told;
	if (batch_ret(&p->b, p->wait) != p->who.signo || info->si_code != SI_MESGQ ||
	    batch_ret(&p->b, p->again) < 0)
		return err_set(err, -EIO, "task %d was not told of a message (mq_notify)",
			       p->t->pid);
	f->mqueue->notify->value = told->event.value;
	return 0;
}

static bool is_pending(struct dump_ctx *c, const struct tracee *t, int signo)
{
	struct proc_status st = {0};
	_cleanup_close_ int dir = -1;
	bool ret = true;

	for (size_t i = 0; i < t->nthreads; i++) {
		if (t->thread[i].is_exited ||
		    proc_open(c->proc_fd, t->pid, t->thread[i].tid, &dir, NULL) < 0)
			continue;
		if (proc_status(dir, &st, NULL) == 0)
			ret = (st.sig_pnd | st.shd_pnd) & 1ULL << (signo - 1) ||
			      st.sigq + 2 > st.sigq_max;
		proc_status_release(&st);
		break; /* the first live one is in the loop */
	}
	return ret;
}

static const char *find_obstacle(struct dump_ctx *c, const struct probing *p, long nmessages)
{
	const struct proc_status *st;

	if (nmessages)
		return "and there are messages in it";
	if (p->who.kind == SIGEV_NONE)
		return NULL;
	if (p->who.kind != SIGEV_SIGNAL || p->who.signo < 1 || p->who.signo > 64)
		return "in a thread of its own (SIGEV_THREAD)";
	if (!p->t->mailbox.local || p->t->mm_owner != p->t ||
	    attr_status(c, p->t, NULL, &st, NULL) < 0 || st->seccomp)
		return "and cannot tell the value of its signal";
	if (is_pending(c, p->t, p->who.signo))
		return "and has such a signal pending";
	return NULL;
}

/* ---- dump ---- */

/* A descriptor of the queue that the task has; it is recorded with that. */
static Cpx__File *find_file(const struct dump_ctx *c, pid_t pid, const Cpx__File *f, int *ret_fd)
{
	for (size_t i = 0; i < c->files->ntables; i++) {
		const struct table_entry *e = &c->files->table[i];

		for (size_t k = 0; e->t->pid == pid && k < e->table->n_fd; k++) {
			Cpx__File *g = files_get(c, e->table->fd[k]->file - 1);

			*ret_fd = e->table->fd[k]->fd;
			if (g->mqueue && g->mqueue->ino == f->mqueue->ino &&
			    g->mqueue->unlinked == f->mqueue->unlinked)
				return g;
		}
	}
	return NULL;
}

static int record(struct dump_ctx *c, Cpx__File *f, struct probing *p, struct err *err)
{
	Cpx__MqNotify *n = f->mqueue->notify = MSG_NEW(Cpx__MqNotify, cpx__mq_notify__init);
	bool is_possible = false;
	int own_fd, r;

	if (!n)
		return err_nomem(err);
	n->pid = p->who.pid;
	n->kind = p->who.kind;
	n->signo = p->who.kind == SIGEV_SIGNAL ? p->who.signo : 0;
	if (p->who.kind == SIGEV_NONE)
		return 0;
	r = mqcontent_may_copy(p->t, &is_possible, err);
	if (r < 0 || !is_possible)
		return r < 0 ? r
			     : refuse_notify(c, f, "and this kernel does not let it tell the value");
	r = mqcontent_free_fd(c, p->t, &own_fd, err);
	return r < 0 ? r : probe(p, own_fd, f, err);
}

int mqnotify_dump(struct dump_ctx *c, Cpx__File *f, int fd, long nmessages, struct err *err)
{
	struct probing p = {0};
	const char *obstacle;
	Cpx__File *theirs;
	int r = read_registration(fd, &p.who, err);

	if (r < 0 || !p.who.pid)
		return r;
	p.t = tree_find(c->tree, p.who.pid);
	theirs = p.t ? find_file(c, p.who.pid, f, &p.fd) : NULL;
	if (!theirs)
		return refuse_notify(c, f, "who is not in the tree");
	obstacle = find_obstacle(c, &p, nmessages);
	return obstacle ? refuse_notify(c, f, obstacle) : record(c, theirs, &p, err);
}

/* ---- restore ---- */

void mqnotify_settle(const Cpx__Mqueue *q, const Cpx__Task *task, int fd, struct batch *b)
{
	struct sigevent e = {0};
	const Cpx__MqNotify *n = q->notify;

	if (!n || n->pid != task->pid)
		return;
	e.sigev_notify = n->kind;
	e.sigev_signo = n->signo;
	e.sigev_value.sival_ptr = (void *)(uintptr_t)n->value;
	BATCH_CALL(b, SYS_mq_notify, fd, batch_in(b, &e, sizeof(e)));
}
