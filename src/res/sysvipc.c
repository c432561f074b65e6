/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SysV semaphores and message queues (sysvipc(7)): whose they are, and their restore as far as it
 * is the same for both. They live in an IPC namespace, are held open by nobody, and stay when all
 * processes have ended. So by rule an object is the tree's,
 *   - when the IPC namespace is the tree's own;
 *   - when the last PID that the kernel remembers of it (GETPID, msg_lspid, msg_lrpid) is a task's,
 * or a thread waits in it;
 *   - perhaps (`unclaimed`), when a user of the tree has made it since the tree began, and nobody
 * who still lives outside of the tree has used it.
 * What a living process outside of the tree has used as well is refused.
 *
 * Restore: ids are chosen by /proc/sys/kernel/{sem,msg}_next_id, creators and last PIDs by stand-ins
 * (standin.c). An object that is still there under its id and key is taken over and gets the values
 * of the image, unless a living process has used it; an unclaimed one is only made in a new IPC namespace or
 * after another boot.
 * Cannot keep: times, except that sem_otime is or is not 0.
 */
#include "res/sysvipc.h"

#include "base/log.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>

/* ---- dump: whose ---- */

int ipc_refuse(struct dump_ctx *c, const char *kind, int id, const char *fmt, ...)
{
	const struct tracee *root = c->tree->task[0];
	char object[64], reason[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	snprintf(object, sizeof(object), "%s %d", kind, id);
	return refuse(c->refusals, root->pid, root->comm, object, "cannot be checkpointed: %s",
		      reason);
}

static time_t started(int dir)
{
	struct proc_stat st;
	struct timespec real, boot;

	if (proc_stat(dir, &st, NULL) < 0)
		return 0;
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	return real.tv_sec - boot.tv_sec + st.starttime / sysconf(_SC_CLK_TCK);
}

bool ipc_is_alive(int proc_fd, pid_t pid, time_t when)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;

	return proc_open(proc_fd, pid, 0, &dir, NULL) == 0 && proc_stat(dir, &st, NULL) == 0 &&
	       !proc_is_dead(st.state) && started(dir) <= when + 1;
}

static bool waits_in(const struct tracee *t, const struct ipc_seen *s)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		const struct tracee_thread *th = &t->thread[i];

		if (th->is_exited || !arch_restart_code(&th->regs) ||
		    (int)arch_syscall_arg(&th->regs, 0) != s->id)
			continue;
		for (size_t k = 0; k < s->ncalls; k++)
			if (arch_syscall_nr(&th->regs) == s->calls[k])
				return true;
	}
	return false;
}

static bool is_used_by_tree(const struct ipc_look *l, const struct ipc_seen *s)
{
	const struct tree *tree = l->c->tree;

	for (size_t i = 0; i < s->npids; i++)
		if (s->last_pid[i] && tree_find(tree, s->last_pid[i]))
			return true;
	for (size_t i = 0; i < tree->n; i++)
		if (!tree->task[i]->is_zombie && waits_in(tree->task[i], s))
			return true;
	return false;
}

/* The first of those who used it last that is outside and alive, 0: none. */
static pid_t find_stranger(const struct ipc_look *l, const struct ipc_seen *s)
{
	for (size_t i = 0; i < s->npids; i++) {
		pid_t pid = s->last_pid[i];

		if (pid && (!i || s->last_pid[i] != s->last_pid[i - 1]) &&
		    !tree_find(l->c->tree, pid) &&
		    ipc_is_alive(l->c->proc_fd, pid, MAX(s->used, s->changed)))
			return pid;
	}
	return 0;
}

static bool may_be_ours(const struct ipc_look *l, const struct ipc_seen *s)
{
	for (size_t i = 0; i < l->nusers && s->changed >= l->since; i++)
		if (l->user[i] == s->perm->cuid)
			return true;
	return false;
}

int ipc_judge(const struct ipc_look *l, const struct ipc_seen *s, enum ipc_owner *ret,
	      struct err *err)
{
	bool is_ours = l->is_own_namespace || is_used_by_tree(l, s);
	_cleanup_close_ int dir = -1;
	char comm[64] = "?";
	pid_t stranger;

	*ret = is_ours		   ? IPC_OURS
	       : may_be_ours(l, s) ? IPC_UNCLAIMED
				   : IPC_FOREIGN;
	if (l->is_own_namespace || *ret == IPC_FOREIGN)
		return 0;
	stranger = find_stranger(l, s);
	if (!stranger)
		return 0;
	*ret = IPC_FOREIGN;
	if (!is_ours)
		return 0;
	if (proc_open(l->c->proc_fd, stranger, 0, &dir, NULL) == 0)
		proc_comm(dir, comm, sizeof(comm), NULL);
	return ipc_refuse(l->c, s->kind, s->id,
			  "process %d (%s), which is outside of the tree, has used it last; dump a "
			  "common parent of both",
			  stranger, comm) < 0
		       ? err_nomem(err)
		       : 0;
}

int ipc_perm_dump(const struct ipc_perm *p, int id, enum ipc_owner owner, Cpx__IpcPerm **ret,
		  struct err *err)
{
	Cpx__IpcPerm *m = *ret = MSG_NEW(Cpx__IpcPerm, cpx__ipc_perm__init);

	if (!m)
		return err_nomem(err);
	m->key = p->__key;
	m->id = id;
	m->mode = p->mode & 0777;
	m->uid = p->uid;
	m->gid = p->gid;
	m->cuid = p->cuid;
	m->cgid = p->cgid;
	m->unclaimed = owner == IPC_UNCLAIMED;
	return 0;
}

/* ---- dump ---- */

static int add_user(struct ipc_look *l, uid_t uid)
{
	for (size_t i = 0; i < l->nusers; i++)
		if (l->user[i] == uid)
			return 0;
	if (grow(&l->user, &l->maxusers, l->nusers, sizeof(*l->user)) < 0)
		return -ENOMEM;
	l->user[l->nusers++] = uid;
	return 0;
}

static int find_users(struct ipc_look *l)
{
	const struct tree *tree = l->c->tree;
	int r = 0;

	for (size_t i = 0; i < tree->n && r == 0; i++) {
		const struct proc_status *st;

		if (!tree->task[i]->is_zombie &&
		    attr_status(l->c, tree->task[i], NULL, &st, NULL) == 0)
			r = add_user(l, st->uid[1]);
	}
	return r;
}

int sysvipc_dump(struct dump_ctx *c, bool is_own_namespace, Cpx__Image *info, struct err *err)
{
	struct ipc_look l = {.c = c, .info = info, .is_own_namespace = is_own_namespace};
	_cleanup_close_ int dir = -1;
	int r = proc_open(c->proc_fd, c->tree->task[0]->pid, 0, &dir, err);

	if (r < 0)
		return r;
	l.since = started(dir) - 1;
	r = find_users(&l) < 0 ? err_nomem(err) : sysvsem_dump(&l, err);
	if (r == 0)
		r = sysvmsg_dump(&l, err);
	free(l.user);
	return r;
}

/* ---- restore: the records of both kinds, one after the other ---- */

struct ipc_record {
	const struct ipc_kind *kind;
	const Cpx__IpcPerm *perm;
	const void *msg;
};

static bool record_at(const struct image *im, size_t i, struct ipc_record *ret)
{
	const Cpx__Image *info = im->info;

	if (i < info->n_sem_set) {
		*ret = (struct ipc_record){&sysvsem_kind, info->sem_set[i]->perm, info->sem_set[i]};
		return true;
	}
	i -= info->n_sem_set;
	if (i >= info->n_msg_queue)
		return false;
	*ret = (struct ipc_record){&sysvmsg_kind, info->msg_queue[i]->perm, info->msg_queue[i]};
	return true;
}

static size_t count_records(const struct image *im)
{
	return im->info->n_sem_set + im->info->n_msg_queue;
}

bool sysvipc_is_needed(const struct image *im)
{
	return count_records(im) > 0;
}

/* ---- restore: check ---- */

int ipc_refuse_restore(struct restore_ctx *c, const char *kind, int id, const char *fmt, ...)
{
	char object[64], reason[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	snprintf(object, sizeof(object), "%s %d", kind, id);
	return refuse(c->refusals, 0, NULL, object, "cannot be restored: %s", reason);
}

static int open_next_id(const struct ipc_kind *k)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s", k->next_id);
	return open(path, O_WRONLY | O_CLOEXEC);
}

static int check_absent(struct restore_ctx *c, const struct ipc_record *o)
{
	_cleanup_close_ int fd = open_next_id(o->kind);

	if (o->perm->key != IPC_PRIVATE &&
	    (o->kind->get(o->msg, o->perm->key, 0) >= 0 || errno != ENOENT))
		return ipc_refuse_restore(c, o->kind->name, o->perm->id,
					  "another one has the key 0x%x: remove that (ipcrm), or "
					  "restore with --pid=new",
					  o->perm->key);
	if (fd < 0)
		return ipc_refuse_restore(
			c, o->kind->name, o->perm->id,
			"only a cpx with cap_checkpoint_restore may choose the id (setcap "
			"cap_checkpoint_restore+ep, or root); or restore with --pid=new");
	return 0;
}

/* Who may set owner and mode (ipcctl_obtain_check() in ipc/util.c) may do it all. */
static bool may_change(const struct restore_ctx *c, const struct ipc_perm *p)
{
	return c->is_privileged || geteuid() == p->uid || geteuid() == p->cuid;
}

static bool is_it(const struct ipc_record *o, const struct ipc_perm *p)
{
	return p->__key == o->perm->key && o->kind->is_same(o->msg, o->perm->id);
}

static int check_one(struct restore_ctx *c, const struct ipc_record *o)
{
	struct ipc_perm p;
	pid_t user = 0;
	int r = o->kind->examine(o->perm->id, &p, &user);

	if (r == -EINVAL || r == -EIDRM)
		return check_absent(c, o);
	if (r < 0 || !is_it(o, &p) || !may_change(c, &p))
		return ipc_refuse_restore(c, o->kind->name, o->perm->id,
					  "another one has this id: remove that (ipcrm), or "
					  "restore with --pid=new");
	if (!user)
		return 0;
	return ipc_refuse_restore(c, o->kind->name, o->perm->id,
				  "it is still there, and process %d uses it: end that, or restore "
				  "with --pid=new",
				  user);
}

int sysvipc_check(struct restore_ctx *c, struct err *err)
{
	struct ipc_record o;
	int r = 0;

	for (size_t i = 0; r == 0 && record_at(c->image, i, &o); i++) {
		struct ipc_perm p;
		pid_t user;
		bool exists = !c->new_ipc_ns && o.kind->examine(o.perm->id, &p, &user) == 0;

		if (!c->new_ipc_ns && !o.perm->unclaimed && check_one(c, &o) < 0)
			r = err_nomem(err);
		if (r == 0 && o.kind == &sysvmsg_kind)
			r = sysvmsg_check_limits(c, o.msg, exists, err);
	}
	return r;
}

/* ---- restore ---- */

static int choose_id(const struct ipc_record *o, struct err *err)
{
	_cleanup_close_ int fd = open_next_id(o->kind);
	char text[24];
	int n = snprintf(text, sizeof(text), "%d", o->perm->id);

	return fd < 0 || write(fd, text, n) != n ? err_sys(err, -errno, "cannot choose the id") : 0;
}

/* In a process of its own, as the creator, as far as we may. System calls themselves: those of the C
 * library would tell threads that are not here. */
static int make_as_creator(const void *arg)
{
	const struct ipc_record *o = arg;
	int id;

	if (syscall(SYS_setresgid, -1, o->perm->cgid, -1) < 0 ||
	    syscall(SYS_setresuid, -1, o->perm->cuid, -1) < 0)
		syscall(SYS_setresgid, -1, getgid(), -1);
	id = o->kind->get(o->msg, o->perm->key, IPC_CREAT | IPC_EXCL | 0600);
	if (id < 0 || id == o->perm->id)
		return id < 0 ? -errno : 0;
	o->kind->remove(id);
	return -EADDRINUSE;
}

static int make(struct restore_ctx *c, size_t i, const struct ipc_record *o, struct err *err)
{
	int r = choose_id(o, err);

	if (r < 0)
		return r;
	r = stand_in_run(0, make_as_creator, o);
	if (r < 0)
		return err_sys(err, r, "cannot make it");
	c->ipc_made[i] = true;
	return 0;
}

static bool is_same_boot(const struct restore_ctx *c)
{
	char id[37];

	return proc_boot_id(c->proc_fd, id, NULL) == 0 &&
	       strcmp(id, c->image->info->host->boot_id) == 0;
}

/* It may be a stranger's: on the boot that the image is from it is there, or he has removed it. */
static int create_unclaimed(struct restore_ctx *c, size_t i, const struct ipc_record *o)
{
	struct err err = ERR_INIT;

	if (!c->new_ipc_ns && is_same_boot(c))
		return 0;
	if (make(c, i, o, &err) < 0 || o->kind->fill(c, o->msg, o->perm->id, &err) < 0)
		log_debug("%s %d: %s", o->kind->name, o->perm->id, err.msg);
	return 0;
}

static int create_one(struct restore_ctx *c, size_t i, const struct ipc_record *o, struct err *err)
{
	struct ipc_perm p;
	pid_t user;
	int r = o->kind->examine(o->perm->id, &p, &user);

	if (o->perm->unclaimed)
		return r < 0 ? create_unclaimed(c, i, o) : 0;
	if (r == 0 && !is_it(o, &p))
		return err_set(err, -EEXIST, "another one has this id");
	if (r < 0)
		r = make(c, i, o, err);
	return r < 0 ? r : o->kind->fill(c, o->msg, o->perm->id, err);
}

int sysvipc_create(struct restore_ctx *c, struct err *err)
{
	struct ipc_record o;
	int r = 0;

	c->ipc_made = calloc(count_records(c->image) + 1, sizeof(*c->ipc_made));
	if (!c->ipc_made)
		return err_nomem(err);
	for (size_t i = 0; r == 0 && record_at(c->image, i, &o); i++) {
		r = create_one(c, i, &o, err);
		if (r < 0)
			err_context(err, "%s %d", o.kind->name, o.perm->id);
	}
	return r;
}

void sysvipc_release(struct restore_ctx *c, bool is_restored)
{
	struct ipc_record o;

	for (size_t i = 0; c->ipc_made && !is_restored && record_at(c->image, i, &o); i++)
		if (c->ipc_made[i] && o.kind->remove(o.perm->id) < 0)
			log_debug("%s %d cannot be removed", o.kind->name, o.perm->id);
	free(TAKE_PTR(c->ipc_made));
}
