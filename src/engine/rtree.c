/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tree under construction: finding tasks, running batches in them, killing all of them. */
#include "engine/rtree.h"

#include "base/util.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct lane *rtask_lane(struct rtree *rt, const struct rtask *t)
{
	return mailbox_lane(&rt->box, t->thread[0].lane);
}

struct batch rtask_batch(struct rtree *rt, const struct rtask *t)
{
	return lane_batch(&rt->box, t->thread[0].lane);
}

int rtask_context(const struct rtask *t, struct err *err)
{
	if (!t->msg)
		return err_context(err, "stand-in for the ended task %d", t->pid);
	return err_context(err, "task %d (%.*s)", t->pid, (int)t->msg->comm.len,
			   (const char *)t->msg->comm.data);
}

int rtask_run(struct rtree *rt, struct rtask *t, const struct batch *b, struct err *err)
{
	int r = lane_run(rtask_lane(rt, t), b, t->pidfd, t->pid, err);

	return r < 0 ? rtask_context(t, err) : 0;
}

int rtask_wait_end(const struct rtask *t, struct err *err)
{
	struct pollfd p = {.fd = t->pidfd, .events = POLLIN};

	while (poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for the end of task %d", t->pid);
	return 0;
}

int rtask_exit(struct rtree *rt, struct rtask *t, int code, struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int r;

	BATCH_CALL(&b, SYS_exit_group, code);
	r = lane_post(rtask_lane(rt, t), &b, err);
	if (r < 0)
		return rtask_context(t, err);
	t->is_alive = false;
	r = rtask_wait_end(t, err);
	/* As its tracer we are told first; then it is its parent's to reap. */
	if (r == 0 && t->thread[0].is_seized && waitpid(t->pid, NULL, __WALL) == t->pid)
		t->thread[0].is_seized = false;
	return r;
}

struct rtask *rtree_find(const struct rtree *rt, pid_t pid)
{
	for (size_t i = 0; i < rt->n; i++)
		if (rt->task[i]->pid == pid)
			return rt->task[i];
	return NULL;
}

static void kill_task(struct rtask *t)
{
	if (t->is_alive && t->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, t->pidfd, SIGKILL, NULL, 0);
	else if (t->is_alive) /* no pidfd could be had; nobody has waited for it yet */
		kill(t->pid, SIGKILL);
	t->is_alive = false;
}

/* The threads of what was killed are reaped here: by the tracer each, and the root as our child.
 * Only numbers that are ours are waited for. */
static void reap_task(struct rtask *t)
{
	for (size_t i = t->nthreads; i-- > 0;)
		if (t->thread[i].is_seized)
			while (waitpid(t->thread[i].tid, NULL, __WALL) > 0)
				;
	if (!t->parent && t->pid > 0)
		while (waitpid(t->pid, NULL, __WALL) > 0)
			;
}

void rtree_abort(struct rtree *rt)
{
	for (size_t i = 0; i < rt->n; i++)
		kill_task(rt->task[i]);
	for (size_t i = rt->n; i-- > 0;)
		reap_task(rt->task[i]);
}

static void rtask_free(struct rtask *t)
{
	if (t->pidfd >= 0)
		close(t->pidfd);
	if (t->mem_fd >= 0)
		close(t->mem_fd);
	if (t->uffd >= 0)
		close(t->uffd);
	page_ranges_release(&t->pages);
	page_ranges_release(&t->kept);
	page_ranges_release(&t->hidden);
	free(t->special);
	free(t->thread);
	free(t);
}

void rtree_release(struct rtree *rt)
{
	for (size_t i = 0; i < rt->n; i++)
		rtask_free(rt->task[i]);
	free(rt->task);
	free(rt->pending_data);
	free(TAKE_PTR(rt->special));
	rt->task = NULL;
	rt->n = rt->max = 0;
	rt->pending_data = NULL;
	space_release(rt);
}
