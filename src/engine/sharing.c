/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Refuses sharing that an image cannot express: threads with descriptors of their own, tasks that
 * share their working folder or signal actions, namespaces other than ours. Tells who has SysV semaphore
 * adjustments of his own, and has them read. Reads kcmp(2) and /proc/PID/ns.
 */
#include "base/util.h"
#include "engine/session.h"
#include "proc/proc.h"

#include <linux/kcmp.h>
#include <sched.h>
#include <sys/syscall.h>

/* Different kernel objects of one type, ordered by kcmp(2), each by the first task that has it. */
struct kinds {
	struct kind {
		struct tracee *t;
		pid_t tid;
	} * item;
	size_t n, max;
};

/* -errno, or 0 equal, 1 less, 2 greater. */
static int compare(pid_t a, pid_t b, int type, struct err *err)
{
	int order = syscall(SYS_kcmp, a, b, type, 0, 0);

	if (order < 0)
		return err_sys(err, -errno, "kcmp of %d and %d", a, b);
	if (order == 3)
		return err_set(err, -EIO, "kcmp of %d and %d gives no order", a, b);
	return order;
}

static int insert(struct kinds *k, size_t at, struct tracee *t, pid_t tid, struct err *err)
{
	if (grow(&k->item, &k->max, k->n, sizeof(*k->item)) < 0)
		return err_nomem(err);
	memmove(k->item + at + 1, k->item + at, (k->n - at) * sizeof(*k->item));
	k->item[at] = (struct kind){.t = t, .tid = tid};
	k->n++;
	return 0;
}

/* Finds the object that tid has, or adds it. *ret is valid until the next call. */
static int find_or_add(struct kinds *k, int type, struct tracee *t, struct kind **ret,
		       struct err *err)
{
	pid_t tid = t->thread[tracee_speaker(t)].tid;
	size_t low = 0, high = k->n;
	int r;

	while (low < high) {
		size_t middle = (low + high) / 2;

		r = compare(tid, k->item[middle].tid, type, err);
		if (r < 0)
			return r;
		*ret = &k->item[middle];
		if (r == 0)
			return 0;
		if (r == 1)
			high = middle;
		else
			low = middle + 1;
	}
	r = insert(k, low, t, tid, err);
	if (r == 0)
		*ret = &k->item[low];
	return r;
}

static const struct {
	int type;
	const char *object;
} private_kind[] = {
	{KCMP_FS, "working folder and umask"},
	{KCMP_SIGHAND, "signal actions"},
};

/* Refuses the tasks that share an object of a type that an image holds per task. */
static int refuse_shared(struct session *s, size_t which, struct err *err)
{
	struct kinds kinds = {0};
	int ret = 0;

	for (size_t i = 0; i < s->tree.n && ret == 0; i++) {
		struct tracee *t = s->tree.task[i];
		struct kind *first = NULL;

		if (t->is_zombie)
			continue;
		ret = find_or_add(&kinds, private_kind[which].type, t, &first, err);
		if (ret == 0 && first->t != t &&
		    refuse(&s->refusals, t->pid, t->comm, private_kind[which].object,
			   "cannot be checkpointed: shared with task %d (%s)", first->t->pid,
			   first->t->comm) < 0)
			ret = err_nomem(err);
	}
	free(kinds.item);
	return ret;
}

static int check_thread(struct session *s, struct tracee *t, size_t i, struct err *err)
{
	static const struct {
		int type;
		const char *what;
	} whole[] = {{KCMP_FILES, "descriptors"}, {KCMP_FS, "working folder and umask"}};
	pid_t speaker = t->thread[tracee_speaker(t)].tid, tid = t->thread[i].tid;

	for (size_t k = 0; k < ARRAY_SIZE(whole); k++) {
		int r = compare(speaker, tid, whole[k].type, err);

		if (r < 0)
			return r;
		if (r == 0)
			continue;
		if (refuse(&s->refusals, t->pid, t->comm, whole[k].what,
			   "cannot be checkpointed: thread %d has its own (unshare)", tid) < 0)
			return err_nomem(err);
	}
	return 0;
}

/*
 * Some are the same in all threads: those of users and PIDs and the present one of time are for tasks with one
 * thread to change, and for new tasks (kernel/user_namespace.c, userns_install; kernel/fork.c, copy_process;
 * kernel/time/namespace.c, timens_install), and the mount namespace is for those to change who share their working
 * folder with nobody (fs/namespace.c, mntns_install; kernel/fork.c, ksys_unshare); who has another folder than the
 * speaker is refused anyway.
 */
struct namespace_kind {
	const char *link, *name;
	bool is_of_thread;
	uint64_t ours; /* 0: this kernel has none */
};

static int check_namespaces(struct session *s, struct tracee *t, size_t thread,
			    const struct namespace_kind *ns, size_t n, struct err *err)
{
	bool is_speaker = thread == tracee_speaker(t);
	_cleanup_close_ int dir = -1;
	int ret = proc_open(s->ctx.proc_fd, t->pid, t->thread[thread].tid, &dir, err);

	for (size_t i = 0; i < n && ret == 0; i++) {
		uint64_t theirs = 0;

		if (!ns[i].ours || !(is_speaker || ns[i].is_of_thread))
			continue;
		ret = proc_ns_id(dir, ns[i].link, &theirs, err);
		if (ret == -ESRCH) /* for_children, made by unshare(2) and still without a task */
			ret = 0;
		if (ret == 0 && theirs != ns[i].ours &&
		    refuse(&s->refusals, t->pid, t->comm, ns[i].name,
			   "cannot be checkpointed: it is not the one of cpx; run cpx inside it") <
			    0)
			ret = err_nomem(err);
	}
	return ret;
}

static int find_our_namespaces(struct session *s, struct namespace_kind *ns, size_t n,
			       struct err *err)
{
	_cleanup_close_ int dir = -1;
	int ret = proc_open(s->ctx.proc_fd, getpid(), 0, &dir, err);

	for (size_t i = 0; i < n && ret == 0; i++) {
		ret = proc_ns_id(dir, ns[i].link, &ns[i].ours, err);
		if (ret == -ESRCH) /* not in this kernel */
			ret = 0;
	}
	return ret;
}

static int check_task(struct session *s, struct tracee *t, const struct namespace_kind *ns,
		      size_t n, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < t->nthreads && ret == 0; i++) {
		if (t->thread[i].is_exited)
			continue;
		ret = check_namespaces(s, t, i, ns, n, err);
		if (ret == 0)
			ret = check_thread(s, t, i, err);
	}
	return ret;
}

int collect_sharing(struct session *s, struct err *err)
{
	struct namespace_kind ns[] = {
		{"pid", "PID namespace"},
		{"pid_for_children", "PID namespace of children", true},
		{"mnt", "mount namespace"},
		{"net", "network namespace", true},
		{"ipc", "IPC namespace", true},
		{"uts", "UTS namespace", true},
		{"user", "user namespace"},
		{"time", "time namespace"},
		{"time_for_children", "time namespace of children", true},
	};
	int ret = find_our_namespaces(s, ns, ARRAY_SIZE(ns), err);

	for (size_t i = 0; i < s->tree.n && ret == 0; i++) {
		struct tracee *t = s->tree.task[i];

		if (t->is_zombie)
			continue;
		ret = check_task(s, t, ns, ARRAY_SIZE(ns), err);
		if (ret < 0)
			err_context(err, "task %d (%s)", t->pid, t->comm);
	}
	for (size_t k = 0; k < ARRAY_SIZE(private_kind) && ret == 0; k++)
		ret = refuse_shared(s, k, err);
	return ret;
}

/* ---- SysV semaphores: lists of SEM_UNDO ---- */

/* kernel/kcmp.c compares the pointers to the lists. Ours is NULL once it is let go of (threads
 * share one from birth), so that a task that compares equal has none. */
static int has_undo_list(const struct tracee *t, bool *ret, struct err *err)
{
	int r;

	unshare(CLONE_SYSVSEM);
	r = compare(gettid(), t->thread[tracee_speaker(t)].tid, KCMP_SYSVSEM, err);
	*ret = r > 0;
	return MIN(r, 0);
}

static int refuse_undo(struct session *s, const struct tracee *t, struct err *err)
{
	return refuse(&s->refusals, t->pid, t->comm, "SysV semaphores",
		      "cannot be checkpointed: undo operations (SEM_UNDO) are pending for a part of "
		      "its threads, or for several tasks together") < 0
		       ? err_nomem(err)
		       : 0;
}

static int check_undo_threads(struct session *s, const struct tracee *t, struct err *err)
{
	pid_t speaker = t->thread[tracee_speaker(t)].tid;
	int ret = 0;

	for (size_t i = 0; i < t->nthreads && ret == 0; i++)
		if (!t->thread[i].is_exited)
			ret = compare(speaker, t->thread[i].tid, KCMP_SYSVSEM, err);
	return ret > 0 ? refuse_undo(s, t, err) : ret;
}

static int read_undo(struct session *s, struct dump_task *d, struct kinds *lists, struct err *err)
{
	struct kind *first = NULL;
	bool has_list = false;
	int ret = check_undo_threads(s, d->t, err);

	if (ret == 0)
		ret = has_undo_list(d->t, &has_list, err);
	if (ret < 0 || !has_list || s->is_closed_to_us)
		return ret;
	ret = find_or_add(lists, KCMP_SYSVSEM, d->t, &first, err);
	if (ret == 0 && first->t != d->t)
		return refuse_undo(s, d->t, err);
	return ret < 0 ? ret
		       : semundo_dump(&s->ctx, d->t, tracee_speaker(d->t), s->info, d->msg, err);
}

int collect_ipc(struct session *s, struct err *err)
{
	struct kinds lists = {0};
	int ret = sysvipc_dump(&s->ctx, s->has_own_ipc, s->info, err);

	for (size_t i = 0; i < s->ntasks && ret == 0 && s->info->n_sem_set; i++) {
		if (s->task[i].t->is_zombie)
			continue;
		ret = read_undo(s, &s->task[i], &lists, err);
		if (ret < 0)
			err_context(err, "task %d (%s)", s->task[i].t->pid, s->task[i].t->comm);
	}
	free(lists.item);
	return ret;
}
