/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tasks: each is cloned by its parent with its old number (clone3(2), set_tid), the root by the
 * coordinator. A task's memory stands before its children are cloned. Tasks that stand in line in
 * the image and whose parents are complete are a wave: their memories are made at the same time.
 *
 * Sessions cannot be joined, only inherited or begun. So children of the session in which their
 * parent was born are cloned before the parent begins its own; children of a session whose leader
 * has ended are cloned by a stand-in with the leader's number, and become their parent's when
 * the stand-in ends (the parent is made a subreaper for that time; kernel/exit.c,
 * find_new_reaper).
 */
#include "engine/stock.h"

#include "base/util.h"
#include "engine/plan.h"

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BROOD_MAX 256 /* children that are cloned by one batch */
#define WAVE_MAX  256 /* tasks whose memory is made at the same time */

/* ---- bookkeeping ---------------------------------------------------------------------------- */

/* What ends before the switch is not seized, for its parent must be able to wait for it; it dies with us
 * by the robust list instead. */
static bool will_end(const Cpx__Task *msg)
{
	return msg && (msg->state == CPX__TASK__STATE__ZOMBIE ||
		       (msg->n_thread && msg->thread[0]->exited));
}

static int add_leader(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct rthread *th = &t->thread[t->nthreads++];
	struct lane *lane;

	if (rt->next_lane >= rt->box.nlanes)
		return err_set(err, -ENOSPC, "the mailbox is full");
	*th = (struct rthread){.tid = t->pid, .lane = rt->next_lane++};
	if (t->msg && t->msg->n_thread)
		th->msg = t->msg->thread[0];
	lane = mailbox_lane(&rt->box, th->lane);
	/* Until it is seized a new task knows by the robust list that we have died. */
	return lane_init(lane, err);
}

static int add_task(struct rtree *rt, struct rtask *parent, const Cpx__Task *msg, pid_t pid,
		    struct rtask **ret, struct err *err)
{
	struct rtask *t = calloc(1, sizeof(*t));

	if (!t || grow(&rt->task, &rt->max, rt->n, sizeof(*rt->task)) < 0) {
		free(t);
		return err_nomem(err);
	}
	t->msg = msg;
	t->parent = parent;
	t->pid = pid;
	t->pidfd = t->mem_fd = t->uffd = t->uffd_there = -1;
	t->birth_sid = t->sid = parent ? parent->sid : rt->external_sid;
	t->pgid = parent ? parent->pgid : rt->external_pgid;
	rt->task[rt->n++] = t;
	*ret = t;
	t->thread = calloc(msg ? MAX(msg->n_thread, 1) : 1, sizeof(*t->thread));
	if (!t->thread)
		return err_nomem(err);
	return add_leader(rt, t, err);
}

/* Everything that is ours dies with the coordinator until the switch is done. */
static int seize(const struct rtree *rt, struct rtask *t, struct err *err)
{
	if (will_end(t->msg))
		return 0;
	if (ptrace(PTRACE_SEIZE, t->pid, 0, rt->trace_options) < 0)
		return err_sys(err, -errno, "cannot trace the new task %d", t->pid);
	t->thread[0].is_seized = true;
	lane_retire(mailbox_lane(&rt->box, t->thread[0].lane)); /* that list must stay short */
	return 0;
}

static int born(const struct rtree *rt, struct rtask *t, struct err *err)
{
	t->is_alive = true;
	t->pidfd = syscall(SYS_pidfd_open, t->pid, 0);
	if (t->pidfd < 0)
		return err_sys(err, -errno, "cannot open a pidfd of the new task %d", t->pid);
	return seize(rt, t, err);
}

static int clone_failed(const struct rtask *t, int code, struct err *err)
{
	if (code == -EEXIST)
		return err_set(err, code, "PID %d is taken meanwhile", t->pid);
	return err_sys(err, code, "cannot clone task %d", t->pid);
}

/* ---- cloning -------------------------------------------------------------------------------- */

bool grow_may_try_again(pid_t result, pid_t wanted, int *patience_ms)
{
	if (result != -EEXIST || *patience_ms <= 0 || plan_is_pid_seen(wanted))
		return false;
	poll(NULL, 0, 1);
	--*patience_ms;
	return true;
}

static pid_t clone_into_loop(struct rtree *rt, struct rtask *t, pid_t *set_tid, uint64_t flags)
{
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD,
			       .set_tid = (uint64_t)set_tid, .set_tid_size = 1};
	uint64_t lane = mailbox_lane_remote(&rt->box, t->thread[0].lane);
	pid_t pid = syscall(SYS_clone3, &a, sizeof(a));

	if (pid == 0)
		arch_jump_loop(rt->code, lane, lane + LANE_SIZE);
	return pid < 0 ? -errno : pid;
}

/* All signals are blocked in the tree until the switch: nothing there could handle one. That is not for the C library
 * to do, which leaves out the two that it uses itself (timers of SIGEV_THREAD). */
static int clone_root(struct rtree *rt, struct rtask *t, struct err *err)
{
	uint64_t all = ~0ULL, old = 0;
	int patience = GROW_PATIENCE_MS;
	pid_t pid;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	do
		pid = clone_into_loop(rt, t, &t->pid, CLONE_CLEAR_SIGHAND);
	while (grow_may_try_again(pid, t->pid, &patience));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return pid < 0 ? clone_failed(t, pid, err) : born(rt, t, err);
}

static uint64_t clone_flags(const struct rtask *parent, const struct rtask *t)
{
	uint64_t flags = 0;

	if (!t->msg || t->msg->state == CPX__TASK__STATE__ZOMBIE || !parent->msg)
		return 0;
	if (t->msg->mm == parent->msg->mm)
		flags |= CLONE_VM;
	if (t->msg->fd_table == parent->msg->fd_table)
		flags |= CLONE_FILES;
	return flags;
}

static void add_clone(struct rtree *rt, struct batch *b, const struct rtask *by, const struct rtask *t)
{
	struct clone_args a = {.flags = clone_flags(by, t), .set_tid_size = 1};

	a.exit_signal = t->msg ? t->msg->exit_signal : SIGCHLD;
	a.set_tid = batch_in(b, &t->pid, sizeof(t->pid));
	BATCH_CALL(b, SYS_clone3, batch_in(b, &a, sizeof(a)), sizeof(a), 0, 0, 0,
		   mailbox_lane_remote(&rt->box, t->thread[0].lane));
}

/* Its number may not be free yet. */
static int clone_again(struct rtree *rt, struct rtask *by, struct rtask *t, struct err *err)
{
	struct batch b = rtask_batch(rt, by);
	int patience = GROW_PATIENCE_MS, r = 0;
	pid_t result = -EEXIST;

	add_clone(rt, &b, by, t);
	while (r == 0 && grow_may_try_again(result, t->pid, &patience)) {
		r = rtask_run(rt, by, &b, err);
		result = batch_ret(&b, 0);
	}
	if (r < 0)
		return r;
	t->is_alive = result > 0;
	return result < 0 ? clone_failed(t, result, err) : 0;
}

/* These tasks, the last of the tree so far, are cloned by one. What is made must be known, before anything
 * else can fail, for only then it is killed in the end. */
static int clone_all(struct rtree *rt, struct rtask *by, struct rtask *const *t, size_t n, struct err *err)
{
	struct batch b = rtask_batch(rt, by);
	int r;

	for (size_t i = 0; i < n; i++)
		add_clone(rt, &b, by, t[i]);
	r = rtask_run(rt, by, &b, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		t[i]->is_alive = batch_ret(&b, i) > 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		if (batch_ret(&b, i) == -EEXIST)
			r = clone_again(rt, by, t[i], err);
		else if (batch_ret(&b, i) < 0)
			r = clone_failed(t[i], batch_ret(&b, i), err);
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = born(rt, t[i], err);
	return r;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Whose memory it has. True: its own, which is still to be made. */
static bool settle_memory(struct rtree *rt, struct rtask *t)
{
	if (!t->msg || t->msg->state == CPX__TASK__STATE__ZOMBIE) {
		t->mm_owner = t->parent ? t->parent->mm_owner : t;
		t->mm = t->parent ? t->parent->mm : NULL;
		return false;
	}
	t->mm = image_mm(rt->image, t->msg->mm);
	t->mm_owner = t->parent && t->parent->mm == t->mm && t->parent->msg ? t->parent->mm_owner : t;
	return t->mm_owner == t;
}

/* All of these have been cloned, so their parents are complete. */
static int make_memories(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	_cleanup_free_ struct rtask **own = calloc(n, sizeof(struct rtask *));
	size_t nown = 0;
	int r;

	if (!own)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		if (settle_memory(rt, task[i]))
			own[nown++] = task[i];
	r = layout_apply(rt, own, nown, err);
	return r < 0 ? r : pagein_mms(rt, own, nown, err);
}

/* ---- one task ------------------------------------------------------------------------------- */

static int one_call(struct rtree *rt, struct rtask *t, const char *what, const uint64_t arg[7],
		    struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int r;

	batch_add(&b, arg[0], arg + 1);
	r = rtask_run(rt, t, &b, err);
	if (r == 0 && batch_ret(&b, 0) < 0) {
		err_sys(err, (int)batch_ret(&b, 0), "cannot %s", what);
		r = rtask_context(t, err);
	}
	return r;
}

/* Now, because its children inherit a controlling terminal at birth or never. That of cpx may be another session's. */
static int take_terminal(struct rtree *rt, struct rtask *t, struct err *err)
{
	int own = pty_controlling_fd(&rt->ctx, t->msg), fd = terminal_controlling_fd(&rt->ctx, t->msg);
	struct batch b = rtask_batch(rt, t);

	if (own >= 0)
		return one_call(rt, t, "get its controlling terminal",
				(const uint64_t[7]){SYS_ioctl, own, TIOCSCTTY}, err);
	BATCH_CALL(&b, SYS_ioctl, fd, TIOCSCTTY);
	return fd >= 0 ? rtask_run(rt, t, &b, err) : 0;
}

static int begin_session(struct rtree *rt, struct rtask *t, struct err *err)
{
	int r = one_call(rt, t, "begin a session", (const uint64_t[7]){SYS_setsid}, err);

	if (r == 0)
		t->sid = t->pgid = t->pid;
	return r < 0 || !t->msg ? r : take_terminal(rt, t, err);
}

static int make_subreaper(struct rtree *rt, struct rtask *t, bool on, struct err *err)
{
	return one_call(rt, t, "become a subreaper",
			(const uint64_t[7]){SYS_prctl, PR_SET_CHILD_SUBREAPER, on}, err);
}

/* ---- children ------------------------------------------------------------------------------- */

static bool is_child(const Cpx__Task *c, const struct rtask *t)
{
	return c->ppid == (uint32_t)t->pid && c->pid != (uint32_t)t->pid;
}

/* Clones the tasks from `first` on, which are new. */
static int grow_new(struct rtree *rt, struct rtask *by, struct rtask *parent, size_t first, struct err *err)
{
	int r = first < rt->n ? clone_all(rt, by, rt->task + first, rt->n - first, err) : 0;

	for (size_t i = first; i < rt->n; i++)
		rt->task[i]->parent = parent; /* of which the stand-in, if it is one, has the memory */
	return r;
}

/* Children whose session is sid, or who begin one themselves if leaders is set. */
static int grow_children(struct rtree *rt, struct rtask *by, struct rtask *t, pid_t sid,
			 bool leaders, struct err *err)
{
	size_t first = rt->n;
	int r = 0;

	for (size_t i = 0; i < rt->image->ntasks && r == 0; i++) {
		const Cpx__Task *c = rt->image->task[i];
		struct rtask *new = NULL;

		if (!is_child(c, t) || !(c->sid == c->pid ? leaders : c->sid == (uint32_t)sid) ||
		    rtree_find(rt, c->pid))
			continue;
		if (rt->n - first == BROOD_MAX) {
			r = grow_new(rt, by, t, first, err);
			first = rt->n;
		}
		if (r == 0)
			r = add_task(rt, by, c, c->pid, &new, err);
		if (r == 0)
			new->mm_owner = new;
	}
	return r < 0 ? r : grow_new(rt, by, t, first, err);
}

int rtree_stand_in(struct rtree *rt, struct rtask *t, pid_t pid, struct rtask **ret, struct err *err)
{
	int r = add_task(rt, t, NULL, pid, ret, err);

	if (r < 0)
		return r;
	(*ret)->mm_owner = t->mm_owner;
	(*ret)->mm = t->mm;
	return clone_all(rt, t, ret, 1, err);
}

static int grow_by_stand_in(struct rtree *rt, struct rtask *t, pid_t sid, struct err *err)
{
	struct rtask *s = NULL;
	int r = make_subreaper(rt, t, true, err);

	if (r == 0)
		r = rtree_stand_in(rt, t, sid, &s, err);
	if (r == 0)
		r = begin_session(rt, s, err);
	return r < 0 ? r : grow_children(rt, s, t, sid, false, err);
}

static int grow_ended_sessions(struct rtree *rt, struct rtask *t, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->image->ntasks && r == 0; i++) {
		const Cpx__Task *c = rt->image->task[i];

		if (is_child(c, t) && !rtree_find(rt, c->pid))
			r = grow_by_stand_in(rt, t, c->sid, err);
	}
	return r;
}

static int advise_hidden(struct remote *r, struct rtask *t, int advice, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < t->hidden.n && ret == 0; i++)
		ret = REMOTE_CALL(r, "hide memory from its children", err, SYS_madvise, t->hidden.r[i].addr,
				  t->hidden.r[i].len, advice);
	return ret;
}

static int hide(struct remote *r, struct rtask *t, struct err *err)
{
	return advise_hidden(r, t, MADV_DONTFORK, err);
}

/* What is really not to be inherited is marked so again when all are cloned: layout_finish(). */
static int unhide(struct remote *r, struct rtask *t, struct err *err)
{
	return advise_hidden(r, t, MADV_DOFORK, err);
}

static bool has_children(const struct rtree *rt, const struct rtask *t)
{
	for (size_t i = 0; i < rt->image->ntasks; i++)
		if (is_child(rt->image->task[i], t))
			return true;
	return false;
}

static int grow_all_children(struct rtree *rt, struct rtask *t, struct err *err)
{
	bool leads = t->msg->sid == t->msg->pid;
	int r = 0;

	if (leads)
		r = grow_children(rt, t, t, t->birth_sid, false, err);
	if (r == 0 && leads)
		r = begin_session(rt, t, err);
	if (r == 0)
		r = grow_children(rt, t, t, t->sid, true, err);
	return r < 0 ? r : grow_ended_sessions(rt, t, err);
}

/* The children of one whose memory stands; they do not run before they are given theirs. */
static int grow_family(struct rtree *rt, struct rtask *t, struct err *err)
{
	bool has_any = has_children(rt, t);
	int r = has_any && t->mm ? keep_choose_hidden(rt, t, err) : 0;

	if (r == 0 && t->hidden.n)
		r = remote_each(rt, &t, 1, hide, NULL, err);
	if (r == 0)
		r = grow_all_children(rt, t, err);
	if (r == 0 && t->hidden.n)
		r = remote_each(rt, &t, 1, unhide, NULL, err);
	return r;
}

/* Detached, or in a PID namespace of its own, the tree must not hang on our session: the root begins one
 * in the place of the session that nobody of the tree leads. */
static int leave_our_session(struct rtree *rt, struct rtask *root, struct err *err)
{
	int r;

	if (!rt->ctx.detached || root->msg->sid == root->msg->pid)
		return 0;
	r = one_call(rt, root, "begin a session", (const uint64_t[7]){SYS_setsid}, err);
	root->sid = root->birth_sid = rt->external_sid;
	if (root->msg->pgid == root->msg->pid)
		root->pgid = root->pid;
	return r;
}

/* As many tasks from i on, in the order of the image, as have been cloned. */
static int grow_wave(struct rtree *rt, size_t *i, struct err *err)
{
	struct rtask *wave[WAVE_MAX];
	size_t n = 0;
	int r;

	while (n < WAVE_MAX && *i < rt->image->ntasks &&
	       (wave[n] = rtree_find(rt, rt->image->task[*i]->pid)))
		n++, ++*i;
	if (!n)
		return err_set(err, -EBADMSG, "task %u comes before its parent", rt->image->task[*i]->pid);
	r = make_memories(rt, wave, n, err);
	for (size_t k = 0; k < n && r == 0; k++)
		r = grow_family(rt, wave[k], err);
	return r;
}

int rtree_grow(struct rtree *rt, struct err *err)
{
	const Cpx__Task *msg = image_task(rt->image, rt->image->info->root_pid);
	struct rtask *root = NULL;
	int r = add_task(rt, NULL, msg, msg->pid, &root, err);

	if (r == 0)
		r = clone_root(rt, root, err);
	if (rt->stock)
		stock_drop(rt->stock); /* the root has it now */
	if (r == 0)
		r = leave_our_session(rt, root, err);
	/* In the order of the image, which is that of the memory in it. */
	for (size_t i = 0; i < rt->image->ntasks && r == 0;)
		r = grow_wave(rt, &i, err);
	return r;
}
