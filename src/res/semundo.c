/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What SEM_UNDO of semop(2) has left to do at the end of a task. The kernel shows it to nobody, but it can be
 * felt: an operation that would take an adjustment out of its range (16 bits) fails with ERANGE,
 * and one that would have to wait behind it, with EAGAIN. Operations of one call are done all or none
 * (perform_atomic_semop_slow() in ipc/sem.c), so a call that ends with one that cannot be done changes
 * nothing, wakes nobody, and leaves neither PID nor time behind. The task itself makes such calls: first
 * whether any adjustment of a set is not 0, then by bisection what it is.
 *
 * All that stays is an entry of zeros in the kernel's list of the task, for which the kernel sets sem_otime when
 * the task ends: so only tasks are asked that have such a list, and about sets that somebody has operated on.
 * Restore: the task makes the operations that have the adjustment for an effect, and takes
 * their effect on the value back without SEM_UNDO in the same call.
 * Cannot keep: the last PID of a semaphore that a task has an adjustment of, if it is that of a process
 * that is not in the tree: it is the task's then.
 */
#include "res/attr.h"
#include "res/sysvipc.h"

#include <sys/sem.h>
#include <sys/syscall.h>

static const char name[] = "SysV semaphore set";

#define VALUE_MAX  32767
#define ADJUST_MIN (-32768)
#define STEP_OPS   7  /* operations of one question about one semaphore, at most */
#define GROUP_MAX  48 /* semaphores that are asked about in one call or one batch */

/* ---- questions ---- */

struct ops {
	struct sembuf op[GROUP_MAX * STEP_OPS];
	size_t n;
};

static void push(struct ops *o, size_t num, int by, int flags)
{
	if (by)
		o->op[o->n++] = (struct sembuf){num, by, flags | IPC_NOWAIT};
}

/* Operations that together take `by` off the adjustment; returns the value that they leave. */
static int push_undone(struct ops *o, size_t num, int value, int by)
{
	int end = by > 0 ? 0 : VALUE_MAX;

	while (by) {
		int step = by > 0 ? MIN(by, VALUE_MAX) : MAX(by, -VALUE_MAX);

		push(o, num, end - value, 0);
		push(o, num, step, SEM_UNDO);
		value = end + step;
		by -= step;
	}
	return value;
}

/* Is the adjustment at least `least`? (ADJUST_MIN is always true and may not be asked.) */
static void push_least(struct ops *o, size_t num, int *value, int least)
{
	*value = push_undone(o, num, *value, least - ADJUST_MIN);
}

/* Is it at most `most`? */
static void push_most(struct ops *o, size_t num, int *value, int most)
{
	*value = push_undone(o, num, *value, most - VALUE_MAX);
}

static unsigned ask(struct batch *b, int id, struct ops *o, size_t num, int value)
{
	push(o, num, -value - 1, 0); /* never possible */
	return BATCH_CALL(b, SYS_semtimedop, id, batch_in(b, o->op, o->n * sizeof(*o->op)), o->n);
}

/* ---- the search ---- */

struct search {
	struct dump_ctx *c;
	struct tracee *t;
	size_t thread;
	const Cpx__SemSet *set;
	Cpx__Task *task;
	size_t group;	/* semaphores at a time */
	bool is_denied; /* the task may not touch the set */
};

static int run(const struct search *s, const struct batch *b, struct err *err)
{
	return tracee_thread_run(s->t, s->thread, b, err);
}

/* -EAGAIN: yes, -ERANGE: no. */
static int answer(struct search *s, const struct batch *b, unsigned call, bool *ret,
		  struct err *err)
{
	int64_t r = batch_ret(b, call);

	if (r == -EACCES)
		s->is_denied = true;
	if (r != -EAGAIN && r != -ERANGE && r != -EACCES)
		return err_sys(err, (int)MIN(r, -EIO), "cannot ask for undo operations of %d",
			       s->set->perm->id);
	*ret = r == -EAGAIN;
	return 0;
}

/* Whether the semaphores [from, to) have no adjustment. */
static int is_untouched(struct search *s, size_t from, size_t to, bool *ret, struct err *err)
{
	struct batch b = tracee_batch(s->t);
	struct ops least = {.n = 0}, most = {.n = 0};
	bool is_least = true, is_most = true;
	unsigned call[2];
	int v = 0, w = 0, r;

	for (size_t n = from; n < to; n++) {
		v = w = (int)s->set->value[n];
		push_least(&least, n, &v, 0);
		push_most(&most, n, &w, 0);
	}
	call[0] = ask(&b, s->set->perm->id, &least, to - 1, v);
	call[1] = ask(&b, s->set->perm->id, &most, to - 1, w);
	r = run(s, &b, err);
	if (r == 0)
		r = answer(s, &b, call[0], &is_least, err);
	if (r == 0)
		r = answer(s, &b, call[1], &is_most, err);
	*ret = is_least && is_most;
	return r;
}

struct range {
	int low, high;
};

/* One step for all of a group. */
static int halve(struct search *s, size_t from, size_t to, struct range *range, struct err *err)
{
	struct batch b = tracee_batch(s->t);
	int r;

	for (size_t n = from; n < to; n++) {
		struct range *g = &range[n - from];
		struct ops o = {.n = 0};
		int value = (int)s->set->value[n];

		push_least(&o, n, &value, g->low + (g->high - g->low + 1) / 2);
		ask(&b, s->set->perm->id, &o, n, value);
	}
	r = run(s, &b, err);
	for (size_t n = from; n < to && r == 0; n++) {
		struct range *g = &range[n - from];
		int middle = g->low + (g->high - g->low + 1) / 2;
		bool is_least;

		r = answer(s, &b, n - from, &is_least, err);
		if (g->low < g->high)
			*(is_least ? &g->low : &g->high) = is_least ? middle : middle - 1;
	}
	return r;
}

static int add(struct search *s, size_t num, int adjust)
{
	Cpx__SemUndo *u = MSG_NEW(Cpx__SemUndo, cpx__sem_undo__init);

	if (!u || msg_append(&s->task->sem_undo, &s->task->n_sem_undo, u) < 0) {
		free(u);
		return -ENOMEM;
	}
	u->id = s->set->perm->id;
	u->num = num;
	u->adjust = adjust;
	return 0;
}

static int search_group(struct search *s, size_t from, size_t to, struct err *err)
{
	struct range range[GROUP_MAX];
	bool is_untouched_ = true;
	int r = is_untouched(s, from, to, &is_untouched_, err);

	if (r < 0 || s->is_denied || is_untouched_)
		return r;
	for (size_t i = 0; i < to - from; i++)
		range[i] = (struct range){ADJUST_MIN, VALUE_MAX};
	for (int i = 0; i < 16 && r == 0; i++)
		r = halve(s, from, to, range, err);
	for (size_t n = from; n < to && r == 0; n++)
		if (range[n - from].low && add(s, n, range[n - from].low) < 0)
			r = err_nomem(err);
	return r;
}

/* A set that others change meanwhile gives wrong answers. */
static int check_still(struct search *s, struct err *err)
{
	size_t n = s->set->n_value;
	_cleanup_free_ unsigned short *now = calloc(n + 1, sizeof(*now));
	bool is_same = now && semctl(s->set->perm->id, 0, GETALL, now) >= 0;

	if (!now)
		return err_nomem(err);
	for (size_t i = 0; i < n && is_same; i++)
		is_same = now[i] == s->set->value[i];
	if (is_same)
		return 0;
	s->c->npassing++;
	return ipc_refuse(s->c, name, s->set->perm->id,
			  "a process outside of the tree uses it at this moment") < 0
		       ? err_nomem(err)
		       : 0;
}

static bool has_used(const struct search *s)
{
	for (size_t i = 0; i < s->set->n_last_pid; i++)
		if (s->set->last_pid[i] == (uint32_t)s->t->pid)
			return true;
	return false;
}

static int search_set(struct search *s, struct err *err)
{
	int r = 0;

	s->is_denied = false;
	for (size_t n = 0; n < s->set->n_value && r == 0 && !s->is_denied; n += s->group)
		r = search_group(s, n, MIN(n + s->group, s->set->n_value), err);
	if (r == 0 && s->is_denied && has_used(s))
		r = ipc_refuse(s->c, name, s->set->perm->id,
			       "task %d may not use it any more, and cannot tell what SEM_UNDO "
			       "has left",
			       s->t->pid) < 0
			    ? err_nomem(err)
			    : 0;
	return r < 0 ? r : check_still(s, err);
}

/* Operations that one call may have (kernel.sem). */
static size_t ops_limit(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/sys/kernel/sem", "re");
	size_t msl, mns, opm;

	return f && fscanf(f, "%zu %zu %zu", &msl, &mns, &opm) == 3 ? opm : 500;
}

int semundo_dump(struct dump_ctx *c, struct tracee *t, size_t thread, const Cpx__Image *info,
		 Cpx__Task *task, struct err *err)
{
	struct search s = {.c = c, .t = t, .thread = thread, .task = task};
	size_t limit = ops_limit();
	int r = 0;

	if (limit < STEP_OPS)
		return refuse(c->refusals, t->pid, t->comm, "SysV semaphores",
			      "cannot be checkpointed: undo operations (SEM_UNDO) may be pending, "
			      "and kernel.sem does not let cpx look for them") < 0
			       ? err_nomem(err)
			       : 0;
	s.group = MIN(GROUP_MAX, (limit - 1) / (STEP_OPS - 1));
	for (size_t i = 0; i < info->n_sem_set && r == 0; i++) {
		s.set = info->sem_set[i];
		if (s.set->operated)
			r = search_set(&s, err);
	}
	return r;
}

/* ---- restore ---- */

static const Cpx__SemSet *find_set(const struct restore_ctx *c, int id)
{
	const Cpx__Image *info = c->image->info;

	for (size_t i = 0; i < info->n_sem_set; i++)
		if (info->sem_set[i]->perm->id == id)
			return info->sem_set[i];
	return NULL;
}

/* Leaves the value as it is. */
static void add_change(struct batch *b, int id, size_t num, int value, int by, int flags)
{
	struct sembuf there = {num, by, flags | IPC_NOWAIT}, back = {num, -by, IPC_NOWAIT};
	bool fits = value + by >= 0 && value + by <= VALUE_MAX;
	struct sembuf op[2] = {fits ? there : back, fits ? back : there};

	BATCH_CALL(b, SYS_semop, id, batch_in(b, op, sizeof(op)), 2);
}

/* In parts for which there is room on either side of any value. */
static void give_undo(struct batch *b, const Cpx__SemUndo *u, int value)
{
	for (int left = u->adjust; left;) {
		int step = left > 0 ? MIN(left, 16383) : MAX(left, -16383);

		add_change(b, u->id, u->num, value, -step, SEM_UNDO);
		left -= step;
	}
}

static int give_undos(struct restore_ctx *c, const Cpx__Task *task, struct batch *b,
		      uint64_t *scratch)
{
	for (; *scratch < task->n_sem_undo; ++*scratch) {
		const Cpx__SemUndo *u = task->sem_undo[*scratch];

		if (batch_is_tight(b, 4, 128))
			return 1;
		give_undo(b, u, find_set(c, u->id)->value[u->num]);
	}
	return 0;
}

static bool is_adjusted(const struct restore_ctx *c, int id, size_t num)
{
	for (size_t i = 0; i < c->image->ntasks; i++) {
		const Cpx__Task *t = c->image->task[i];

		for (size_t k = 0; k < t->n_sem_undo; k++)
			if (t->sem_undo[k]->id == id && t->sem_undo[k]->num == num)
				return true;
	}
	return false;
}

/* The undo operations of others have left their PIDs: this task was the last. at: set and number to go
 * on with. */
static int give_last(struct restore_ctx *c, const Cpx__Task *task, struct batch *b, uint64_t at[2])
{
	const Cpx__Image *info = c->image->info;

	for (; at[0] < info->n_sem_set; at[0]++, at[1] = 0) {
		const Cpx__SemSet *s = info->sem_set[at[0]];

		for (; at[1] < s->n_value; at[1]++) {
			if (s->last_pid[at[1]] != task->pid ||
			    !is_adjusted(c, s->perm->id, at[1]))
				continue;
			if (batch_is_tight(b, 2, 64))
				return 1;
			add_change(b, s->perm->id, at[1], s->value[at[1]], 1, 0);
		}
	}
	return 0;
}

static int semundo_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	if (!c->image || !c->image->info || !c->image->info->n_sem_set)
		return 0;
	if (stage == GIVE_EARLY)
		return give_undos(c, task, b, scratch);
	return stage == GIVE_MAIN ? give_last(c, task, b, scratch) : 0;
}

const struct attr_ops semundo_attr_ops = {
	.name = "SysV semaphore adjustments",
	.give = semundo_give,
};
