/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Process groups, once all tasks exist; then stand-ins and zombies end.
 *
 * A group can only be joined while somebody is in it, and its number is that of its leader: where
 * the leader has ended in the image (the first command of a pipeline), a stand-in makes the group.
 *
 * Cannot keep: the core-dumped flag of a zombie's status.
 */
#include "engine/rtree.h"

#include "base/util.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- groups --------------------------------------------------------------------------------- */

static int set_group(struct rtree *rt, struct rtask *t, pid_t pgid, struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int r;

	BATCH_CALL(&b, SYS_setpgid, 0, pgid);
	r = rtask_run(rt, t, &b, err);
	if (r == 0 && batch_ret(&b, 0) < 0) {
		err_sys(err, (int)batch_ret(&b, 0), "cannot join process group %d", pgid);
		r = rtask_context(t, err);
	}
	if (r == 0)
		t->pgid = pgid;
	return r;
}

static bool is_placed(const struct rtree *rt, const struct rtask *t)
{
	return !t->msg || t->msg->pgid == (uint32_t)t->pgid ||
	       (t->msg->pgid == (uint32_t)rt->external_pgid && t->pgid == rt->external_pgid);
}

/* A leader for group pgid, child of a task of the same session. */
static int stand_in_leader(struct rtree *rt, struct rtask *member, pid_t pgid, struct err *err)
{
	struct rtask *t = NULL;
	int r = rtree_stand_in(rt, member, pgid, &t, err);

	return r < 0 ? r : set_group(rt, t, pgid, err);
}

static int found_group(struct rtree *rt, struct rtask *member, struct err *err)
{
	pid_t pgid = member->msg->pgid;
	struct rtask *leader = rtree_find(rt, pgid);

	if (!leader)
		return stand_in_leader(rt, member, pgid, err);
	if (leader->pgid == pgid)
		return 0;
	return set_group(rt, leader, pgid, err);
}

static int end_stand_in(struct rtree *rt, struct rtask *s, struct err *err)
{
	struct batch b = rtask_batch(rt, s->parent);
	int r;

	BATCH_CALL(&b, SYS_wait4, s->pid, 0, __WALL);
	r = rtask_exit(rt, s, 0, err);
	if (r == 0)
		r = rtask_run(rt, s->parent, &b, err);
	if (r == 0 && batch_ret(&b, 0) != s->pid)
		r = err_sys(err, (int)batch_ret(&b, 0), "cannot reap the stand-in for task %d", s->pid);
	s->is_alive = false;
	return r;
}

static int reset_subreaper(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct batch b = rtask_batch(rt, t);

	BATCH_CALL(&b, SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
	return rtask_run(rt, t, &b, err);
}

static int end_stand_ins(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++) {
		struct rtask *s = rt->task[i];

		if (s->msg || !s->is_alive)
			continue;
		r = end_stand_in(rt, s, err);
		if (r == 0)
			r = reset_subreaper(rt, s->parent, err);
	}
	return r;
}

int family_join_groups(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++) {
		struct rtask *t = rt->task[i];

		if (is_placed(rt, t))
			continue;
		r = found_group(rt, t, err);
		if (r == 0 && !is_placed(rt, t))
			r = set_group(rt, t, t->msg->pgid, err);
	}
	return r < 0 ? r : end_stand_ins(rt, err);
}

/* ---- zombies -------------------------------------------------------------------------------- */

/* Dies of signal signo: default action, unblocked, without a core file. */
static void add_death(struct batch *b, pid_t pid, int signo)
{
	uint64_t action[4] = {0}, mask = ~(1ULL << (signo - 1));
	struct rlimit64 none = {0, 0};

	BATCH_CALL(b, SYS_prlimit64, 0, RLIMIT_CORE, batch_in(b, &none, sizeof(none)));
	BATCH_CALL(b, SYS_rt_sigaction, signo, batch_in(b, action, sizeof(action)), 0, 8);
	BATCH_CALL(b, SYS_kill, pid, signo);
	BATCH_CALL(b, SYS_rt_sigprocmask, SIG_SETMASK, batch_in(b, &mask, sizeof(mask)), 0, 8);
}

static int end_zombie(struct rtree *rt, struct rtask *t, struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int status = t->msg->exit_code;

	name_give(&b, t->msg, NULL);
	if (WIFSIGNALED(status))
		add_death(&b, t->pid, WTERMSIG(status));
	BATCH_CALL(&b, SYS_exit_group, WEXITSTATUS(status));
	if (lane_post(rtask_lane(rt, t), &b, err) < 0)
		return rtask_context(t, err);
	t->is_alive = false;
	return rtask_wait_end(t, err);
}

int family_end_zombies(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (rt->task[i]->msg && rt->task[i]->msg->state == CPX__TASK__STATE__ZOMBIE)
			r = end_zombie(rt, rt->task[i], err);
	return r;
}
