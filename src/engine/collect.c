/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Builds the records of a frozen tree: tasks and threads as seen from outside (/proc/PID/stat,
 * /proc/PID/status, the registers that tree_freeze() has read), descriptors and mappings through
 * src/res. Refuses what no resource owns: tasks whose seccomp filters do not let cpx in.
 */
#include "base/util.h"
#include "engine/host.h"
#include "engine/session.h"
#include "proc/proc.h"
#include "res/attr.h"
#include "res/mm.h"

int collect_host(struct session *s, struct err *err)
{
	s->info->host = msg_new(sizeof(Cpx__Host), (void (*)(void *))cpx__host__init);
	return s->info->host ? host_fill(s->info->host, err) : err_nomem(err);
}

/* Of a tree that cannot be frozen there is nothing more to see. */
static int refuse_freeze(struct session *s, const struct err *why, struct err *err)
{
	return refuse(&s->refusals, 0, NULL, NULL, "%s", why->msg) < 0 ? err_nomem(err) : 0;
}

/* -EALREADY: it has a tracer; -EOPNOTSUPP: it is of a kind that cpx does not know. */
int collect_freeze(struct session *s, struct err *err)
{
	struct freeze_options o = {.no_children = s->options->no_children,
				   .first = s->job->first,
				   .nfirst = s->job->nfirst,
				   .first_ms = s->job->first_ms};
	int ret;

	if (s->options->pid == 1)
		return refuse(&s->refusals, 1, "", NULL,
			      "is the init of its PID namespace and cannot be checkpointed: that number "
			      "is not free where a tree is restored; dump a child of it") < 0
			       ? err_nomem(err)
			       : 0;
	ret = tree_freeze(&s->tree, s->options->pid, &o, err);
	if (ret == -EALREADY || ret == -EOPNOTSUPP)
		return refuse_freeze(s, err, err);
	if (ret < 0)
		return ret;
	s->task = calloc(s->tree.n, sizeof(*s->task));
	if (!s->task)
		return err_nomem(err);
	s->ntasks = s->tree.n;
	for (size_t i = 0; i < s->ntasks; i++) {
		s->task[i].t = s->tree.task[i];
		s->task[i].msg = msg_new(sizeof(Cpx__Task), (void (*)(void *))cpx__task__init);
		if (!s->task[i].msg)
			return err_nomem(err);
		s->result->tasks++;
		s->result->threads += s->tree.task[i]->nthreads;
	}
	return 0;
}

static int fill_from_stat(struct session *s, struct dump_task *d, int dir, struct err *err)
{
	struct proc_stat stat;
	Cpx__Task *m = d->msg;
	int ret = proc_stat(dir, &stat, err);

	if (ret < 0)
		return ret;
	m->pid = d->t->pid;
	m->ppid = d->t == s->tree.task[0] ? 0 : d->t->ppid;
	m->pgid = stat.pgid;
	m->sid = stat.sid;
	m->exit_code = d->t->is_zombie ? stat.exit_code : 0;
	m->exit_signal = stat.exit_signal;
	m->tty_controlling = stat.tty_nr != 0;
	m->state = CPX__TASK__STATE__RUNNING;
	if (d->t->is_zombie)
		m->state = CPX__TASK__STATE__ZOMBIE;
	if (msg_set_bytes(&m->comm, stat.comm, strlen(stat.comm)) < 0)
		return err_nomem(err);
	return 0;
}

static int fill_thread(struct session *s, struct dump_task *d, const struct tracee_thread *th,
		       Cpx__Thread *m, struct err *err)
{
	const struct proc_status *status;
	int ret;

	m->tid = th->tid;
	m->exited = th->is_exited;
	if (th->is_exited)
		return 0;
	m->sigmask = th->sigmask;
	m->asleep_ns = th->asleep_ns;
	ret = attr_status(&s->ctx, d->t, th, &status, err);
	if (ret < 0)
		return ret;
	if (msg_set_bytes(&m->gp_regs, &th->regs.gp, sizeof(th->regs.gp)) < 0 ||
	    msg_set_bytes(&m->xstate, th->xstate->data, th->xstate->size) < 0 ||
	    msg_set_bytes(&m->comm, status->comm, strlen(status->comm)) < 0)
		return err_nomem(err);
	return 0;
}

static int add_thread(struct session *s, struct dump_task *d, const struct tracee_thread *th,
		      struct err *err)
{
	Cpx__Thread *m = msg_new(sizeof(*m), (void (*)(void *))cpx__thread__init);

	if (!m || msg_append(&d->msg->thread, &d->msg->n_thread, m) < 0) {
		free(m);
		return err_nomem(err);
	}
	return fill_thread(s, d, th, m, err);
}

int collect_closed(struct session *s, const struct tracee *t, const char *object,
		   const struct err *why, struct err *err)
{
	const struct refusal *last = s->refusals.n ? &s->refusals.item[s->refusals.n - 1] : NULL;

	s->is_closed_to_us = true;
	if (last && last->pid == t->pid && last->object && !strcmp(last->object, object))
		return 0; /* once is enough, however many threads it has */
	return refuse(&s->refusals, t->pid, t->comm, object, "cannot be checkpointed: %s",
		      why->msg) < 0
		       ? err_nomem(err)
		       : 0;
}

static int read_seccomp(struct session *s, struct tracee *t, struct tracee_thread *th,
			struct err *err)
{
	const struct proc_status *status;
	int ret = attr_status(&s->ctx, t, th, &status, err);

	if (ret == 0)
		ret = tracee_seccomp(t, th, status->seccomp, err);
	return ret == -EOPNOTSUPP || ret == -EACCES ? collect_closed(s, t, "seccomp", err, err) : ret;
}

/* Whether it can be let in at all. */
static int check_entry(struct session *s, struct tracee *t, struct tracee_thread *th,
		       struct err *err)
{
	struct err why = ERR_INIT;
	int ret = read_seccomp(s, t, th, err);

	if (ret < 0 || tracee_dispatches(th, &why) == 0)
		return ret;
	s->ctx.npassing++;
	return collect_closed(s, t, "system call user dispatch", &why, err);
}

static int read_attributes(struct session *s, struct dump_task *d, struct err *err)
{
	int ret = 0;

	for (size_t k = 0; attr_registry[k] && ret == 0; k++) {
		const struct attr_ops *ops = attr_registry[k];

		if (!ops->read)
			continue;
		if (!ops->per_thread)
			ret = ops->read(&s->ctx, d->t, NULL, d->msg, NULL, err);
		for (size_t i = 0; ops->per_thread && i < d->t->nthreads && ret == 0; i++)
			if (!d->t->thread[i].is_exited)
				ret = ops->read(&s->ctx, d->t, &d->t->thread[i], d->msg,
						d->msg->thread[i], err);
		if (ret < 0)
			err_context(err, "%s", ops->name);
	}
	return ret;
}

static int collect_live_task(struct session *s, struct dump_task *d, struct err *err)
{
	struct tracee *t = d->t;
	struct tracee_thread *speaker = &t->thread[tracee_speaker(t)];
	int ret = 0;

	if (speaker->in_group_stop) {
		d->msg->state = CPX__TASK__STATE__STOPPED;
		d->msg->stop_signal = speaker->stop_signal;
	}
	for (size_t i = 0; i < t->nthreads && ret == 0; i++) {
		if (!t->thread[i].is_exited) /* first: it may change registers */
			ret = check_entry(s, t, &t->thread[i], err);
		if (ret == 0)
			ret = add_thread(s, d, &t->thread[i], err);
	}
	return ret < 0 ? ret : read_attributes(s, d, err);
}

static int collect_task(struct session *s, struct dump_task *d, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int ret = proc_open(s->ctx.proc_fd, d->t->pid, 0, &dir, err);

	if (ret == 0)
		ret = fill_from_stat(s, d, dir, err);
	if (ret == 0 && !d->t->is_zombie)
		ret = collect_live_task(s, d, err);
	if (ret < 0)
		err_context(err, "task %d (%s)", d->t->pid, d->t->comm);
	return ret;
}

static bool has_leader(const struct session *s, uint32_t id)
{
	return tree_find(&s->tree, id) != NULL;
}

static void collect_info(struct session *s)
{
	const Cpx__Task *root = s->task[0].msg;

	s->info->root_pid = root->pid;
	s->info->tasks = s->result->tasks;
	s->info->threads = s->result->threads;
	s->info->external_sid = has_leader(s, root->sid) ? 0 : root->sid;
	s->info->external_pgid = has_leader(s, root->pgid) ? 0 : root->pgid;
	s->info->has_terminal = root->tty_controlling;
	host_read_clocks(s->info->host);
}

int collect_tasks(struct session *s, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < s->ntasks && ret == 0; i++)
		ret = collect_task(s, &s->task[i], err);
	if (ret == 0)
		collect_info(s);
	return ret;
}

int collect_files(struct session *s, struct err *err)
{
	for (size_t i = 0; i < s->ntasks; i++) {
		const struct dump_task *d = &s->task[i];
		Cpx__FdTable *table = NULL;
		int ret;

		if (d->t->is_zombie)
			continue;
		ret = files_collect(&s->ctx, d->t, &table, err);
		if (ret < 0)
			return err_context(err, "task %d (%s)", d->t->pid, d->t->comm);
		d->msg->fd_table = table->id;
	}
	return files_complete(&s->ctx, err);
}

int collect_borrowed(struct session *s, struct err *err)
{
	return files_borrow(&s->ctx, err);
}

static struct dump_mm *find_mm(struct session *s, const struct tracee *owner)
{
	for (size_t i = 0; i < s->nmms; i++)
		if (s->mm[i].owner == owner)
			return &s->mm[i];
	return NULL;
}

static int add_mm(struct session *s, struct tracee *owner, struct err *err)
{
	struct dump_mm *mm = &s->mm[s->nmms], *parent_mm;
	struct tracee *parent = owner->ppid ? tree_find(&s->tree, owner->ppid) : NULL;
	int ret = mm_collect(&s->ctx, owner, &mm->msg, err);

	if (ret < 0)
		return err_context(err, "task %d (%s)", owner->pid, owner->comm);
	mm->owner = owner;
	mm->msg->id = s->nmms + 1;
	parent_mm = parent && owner != s->tree.task[0] ? find_mm(s, parent->mm_owner) : NULL;
	if (parent_mm) {
		mm->msg->parent_mm = parent_mm->msg->id;
		parent_mm->has_children = true;
	}
	s->nmms++;
	return 0;
}

/* What is populated, as /proc/PID/status counts it. */
static int estimate(struct session *s, const struct tracee *t, struct err *err)
{
	const struct proc_status *status;
	int ret = attr_status(&s->ctx, t, NULL, &status, err);

	if (ret < 0)
		return err_context(err, "task %d (%s)", t->pid, t->comm);
	s->info->memory_bytes += status->rss_anon + status->vm_swap;
	if (t == s->tree.task[0])
		s->info->uid = status->uid[1];
	return 0;
}

int collect_memory(struct session *s, struct err *err)
{
	int ret = 0;

	s->mm = calloc(s->ntasks, sizeof(*s->mm));
	if (!s->mm)
		return err_nomem(err);
	for (size_t i = 0; i < s->ntasks && ret == 0; i++) {
		struct tracee *t = s->task[i].t;

		if (t->is_zombie)
			continue;
		if (t->mm_owner == t)
			ret = add_mm(s, t, err);
		if (ret == 0 && t->mm_owner == t)
			ret = estimate(s, t, err);
		if (ret == 0)
			s->task[i].msg->mm = find_mm(s, t->mm_owner)->msg->id;
	}
	return ret;
}

int collect_injection(struct session *s, struct err *err)
{
	int ret = s->is_closed_to_us ? 0 : ask_permission(s, err);

	return ret < 0 || s->is_closed_to_us ? ret : tracee_inject_all(&s->tree, err);
}
