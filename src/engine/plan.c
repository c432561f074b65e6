/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deciding PIDs, namespaces and clocks: capabilities(7), clone(2) on set_tid, time_namespaces(7).
 */
#include "engine/plan.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "engine/host.h"
#include "proc/proc.h"

#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define NS_PER_S 1000000000LL

/* ---- rights --------------------------------------------------------------------------------- */

struct rights {
	bool may_set_pids; /* clone3(2) with set_tid in this PID namespace */
	bool is_admin;
};

static int own_rights(struct rights *ret, struct err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	uint64_t effective;

	if (syscall(SYS_capget, &head, data) < 0)
		return err_sys(err, -errno, "capget");
	effective = data[0].effective | (uint64_t)data[1].effective << 32;
	ret->is_admin = effective & (1ULL << CAP_SYS_ADMIN);
	ret->may_set_pids = ret->is_admin || effective & (1ULL << CAP_CHECKPOINT_RESTORE);
	return 0;
}

/* ---- PIDs ----------------------------------------------------------------------------------- */

struct numbers {
	pid_t *pid;
	size_t n, max;
};

static int add_number(struct numbers *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->pid[i] == pid)
			return 0;
	if (grow(&l->pid, &l->max, l->n, sizeof(*l->pid)) < 0)
		return -ENOMEM;
	l->pid[l->n++] = pid;
	return 0;
}

/* Groups and sessions whose leader is not in the tree, nor their number the external one: stand-ins. */
static int add_leaders(struct numbers *l, const struct image *im, const Cpx__Task *t)
{
	int r = 0;

	if (t->pgid && t->pgid != im->info->external_pgid && !image_task(im, t->pgid))
		r = add_number(l, t->pgid);
	if (r == 0 && t->sid && t->sid != im->info->external_sid && !image_task(im, t->sid))
		r = add_number(l, t->sid);
	return r;
}

static int all_numbers(const struct image *im, struct numbers *l)
{
	int r = 0;

	for (size_t i = 0; i < im->ntasks && r == 0; i++) {
		const Cpx__Task *t = im->task[i];

		r = add_leaders(l, im, t);
		if (r == 0)
			r = add_number(l, t->pid);
		for (size_t k = 1; k < t->n_thread && r == 0; k++)
			r = add_number(l, t->thread[k]->tid);
	}
	return r;
}

/* Zombies of a killed original hold their PIDs until they are reaped; init may take a while. */
#define ZOMBIE_PATIENCE_MS 3000

static bool is_zombie(pid_t pid)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat s;

	return proc_open(-1, pid, 0, &dir, NULL) == 0 && proc_stat(dir, &s, NULL) == 0 &&
	       s.state == 'Z';
}

static bool is_there(pid_t pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

/* As a task or thread (kill(2) does not tell them apart), or as a group: /proc would have to look up each. */
bool plan_is_pid_seen(pid_t pid)
{
	return is_there(pid) || is_there(-pid);
}

static bool is_taken(pid_t pid, int *patience_ms)
{
	while (plan_is_pid_seen(pid)) {
		if (!is_zombie(pid) || *patience_ms <= 0)
			return true;
		poll(NULL, 0, 10);
		*patience_ms -= 10;
	}
	return false;
}

static pid_t first_taken(const struct numbers *l)
{
	int patience = ZOMBIE_PATIENCE_MS;

	for (size_t i = 0; i < l->n; i++)
		if (is_taken(l->pid[i], &patience))
			return l->pid[i];
	return 0;
}

static int refuse_taken(struct refusals *refusals, pid_t pid)
{
	_cleanup_close_ int dir = -1;
	char comm[32] = "a process group or session", object[32];

	if (proc_open(-1, pid, 0, &dir, NULL) == 0)
		proc_comm(dir, comm, sizeof(comm), NULL);
	snprintf(object, sizeof(object), "PID %d", pid);
	return refuse(refusals, 0, NULL, object,
		      "is taken by %s: end it, or restore with --pid=new in a new PID namespace", comm);
}

static int refuse_unprivileged(struct refusals *refusals)
{
	return refuse(refusals, 0, NULL, "--pid=same",
		      "needs the capability CAP_CHECKPOINT_RESTORE: run as root, have "
		      "'setcap cap_checkpoint_restore+ep' set on the cpx file, or use --pid=new");
}

static int decide_pids(const struct image *im, enum cpx_pids wish, const struct rights *have,
		       struct plan *p, struct refusals *refusals, struct err *err)
{
	struct numbers l = {0};
	pid_t taken = 0;
	int r = all_numbers(im, &l);

	if (r == 0 && wish != CPX_PIDS_NEW && have->may_set_pids)
		taken = first_taken(&l);
	p->lanes = l.n + 1;
	free(l.pid);
	if (r < 0)
		return err_nomem(err);
	p->new_pid_ns = wish == CPX_PIDS_NEW ||
			(wish == CPX_PIDS_AUTO && (taken || !have->may_set_pids));
	if (p->new_pid_ns || (have->may_set_pids && !taken))
		return 0;
	r = taken ? refuse_taken(refusals, taken) : refuse_unprivileged(refusals);
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- clocks --------------------------------------------------------------------------------- */

/* On the boot that the image is from the clocks have gone on; elsewhere they continue where they were, as they do
 * for a tree whose time namespace was ahead of this boot: a clock must not run backwards. */
static void decide_clocks(const struct image *im, struct plan *p)
{
	const Cpx__Host *h = im->info->host;
	int64_t monotonic = h->monotonic_ns - clock_ns(CLOCK_MONOTONIC);
	int64_t boottime = h->boottime_ns - clock_ns(CLOCK_BOOTTIME);

	p->new_time_ns = !host_is_same_boot(h) || monotonic > 0 || boottime > 0;
	if (!p->new_time_ns)
		return;
	p->monotonic_offset_ns = monotonic;
	p->boottime_offset_ns = boottime;
}

/* ---- the plan ------------------------------------------------------------------------------- */

static int refuse_user_ns(struct refusals *refusals, struct err *err)
{
	int r = 0;

	if (access("/proc/self/ns/user", F_OK) < 0)
		r = refuse(refusals, 0, NULL, "user namespaces",
			   "are not in this kernel, and without them only root can restore");
	return r < 0 ? err_nomem(err) : 0;
}

int plan_make(const struct image *im, const struct cpx_restore_options *o, struct plan *ret,
	      struct refusals *refusals, struct err *err)
{
	struct rights have = {0};
	enum cpx_pids wish = o->pids;
	struct plan p = {0};
	int r = own_rights(&have, err);

	if (r < 0)
		return r;
	if (o->copies)
		wish = CPX_PIDS_NEW;
	decide_clocks(im, &p);
	if (p.new_time_ns && !have.is_admin && wish == CPX_PIDS_AUTO)
		wish = CPX_PIDS_NEW; /* only in a user namespace of our own may we set clocks */
	if (p.new_time_ns && !have.is_admin && wish == CPX_PIDS_SAME &&
	    refuse(refusals, 0, NULL, "--pid=same",
		   "needs root for an image of another boot or machine: its clocks need a time namespace; use --pid=new") < 0)
		return err_nomem(err);
	if (wish == CPX_PIDS_AUTO && ptys_need_devpts(im))
		wish = CPX_PIDS_NEW; /* a /dev/pts of its own can only be there */
	r = decide_pids(im, wish, &have, &p, refusals, err);
	if (r < 0)
		return r;
	if (p.new_pid_ns && !o->copies && o->pids == CPX_PIDS_AUTO)
		log_info("a number of the tree is taken or may not be chosen: a new PID namespace is made");
	p.new_user_ns = p.new_pid_ns && !have.is_admin;
	p.new_ipc_ns = p.new_pid_ns && (o->copies || objects_need_ids(im) || sysvipc_is_needed(im));
	p.new_devpts = p.new_pid_ns && ptys_need_devpts(im);
	if (p.new_user_ns)
		r = refuse_user_ns(refusals, err);
	if (r == 0)
		*ret = p;
	return r;
}

/* ---- resources ------------------------------------------------------------------------------ */

static int check_attr(struct restore_ctx *c, const struct attr_ops *ops, const Cpx__Task *t, struct err *err)
{
	int r = 0;

	if (!ops->per_thread)
		return ops->check(c, t, NULL, err);
	for (size_t i = 0; i < t->n_thread && r == 0; i++)
		if (!t->thread[i]->exited)
			r = ops->check(c, t, t->thread[i], err);
	return r;
}

static int check_attrs(struct restore_ctx *c, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < c->image->ntasks; i++)
		for (size_t k = 0; attr_registry[k] && r == 0; k++)
			if (attr_registry[k]->check &&
			    c->image->task[i]->state != CPX__TASK__STATE__ZOMBIE)
				r = check_attr(c, attr_registry[k], c->image->task[i], err);
	return r;
}

int plan_check_resources(struct restore_ctx *c, struct err *err)
{
	int r = files_check(c, err);

	if (r == 0)
		r = objects_check(c, err);
	if (r == 0)
		r = sysvipc_check(c, err);
	if (r == 0)
		r = outputs_check(c, err);
	return r < 0 ? r : check_attrs(c, err);
}

int plan_raise_nofile(struct restore_ctx *c, struct err *err)
{
	/* Per task a pidfd and its memory; some for ourselves. */
	rlim_t need = c->fd_base + c->image->nfiles + c->image->nobjects + 3 * c->image->ntasks + 64;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys(err, -errno, "cannot read RLIMIT_NOFILE");
	if (l.rlim_cur >= need)
		return 0;
	l.rlim_cur = need;
	l.rlim_max = MAX(l.rlim_max, need);
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		return refuse(c->refusals, 0, NULL, "the limit of open files",
			      "is too low: %llu descriptors are needed to restore; raise it (ulimit -n)",
			      (unsigned long long)need);
	return 0;
}
