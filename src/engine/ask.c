/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks the tasks for what only they can say: the attributes of src/res, whose calls are gathered
 * into one batch a thread, and, from parents, whether they have waited for a stop of a child
 * (waitid(2) with WNOWAIT). All address spaces answer at the same time.
 */
#include "base/util.h"
#include "engine/session.h"

#include <sys/syscall.h>
#include <sys/wait.h>

enum { SCRATCH_WORDS = 16 };

/* What one thread is asked. */
struct question {
	struct dump_task *d;
	size_t thread;
	struct batch batch;
	bool is_for_task; /* the attributes of the task too */
	uint64_t (*scratch)[SCRATCH_WORDS];
	struct stop_question {
		struct dump_task *child;
		unsigned call;
		uint64_t info; /* remote siginfo_t */
	} * stop;
	size_t nstops, max_stops;
	unsigned continued; /* the call that asks for any child, + 1 */
	uint64_t continued_info;
	unsigned pending; /* the call that asks for pending signals, + 1 */
	uint64_t pending_mask;
};

static bool concerns(const struct question *q, const struct attr_ops *ops)
{
	return ops->per_thread || q->is_for_task;
}

static size_t registry_size(void)
{
	size_t n = 0;

	while (attr_registry[n])
		n++;
	return n;
}

static int ask_stop(struct question *q, struct dump_task *child, struct err *err)
{
	struct stop_question *stop;

	if (grow(&q->stop, &q->max_stops, q->nstops, sizeof(*q->stop)) < 0)
		return err_nomem(err);
	stop = &q->stop[q->nstops++];
	stop->child = child;
	stop->info = batch_out(&q->batch, sizeof(siginfo_t));
	stop->call = BATCH_CALL(&q->batch, SYS_waitid, P_PID, child->t->pid, stop->info,
				WSTOPPED | WNOHANG | WNOWAIT | __WALL);
	return 0;
}

static int ask_stops(struct session *s, struct question *q, struct err *err)
{
	int ret = 0;

	for (size_t i = 1; i < s->ntasks && ret == 0; i++)
		if (s->task[i].t->ppid == q->d->t->pid &&
		    s->task[i].msg->state == CPX__TASK__STATE__STOPPED)
			ret = ask_stop(q, &s->task[i], err);
	return ret;
}

enum { PEEK_CONTINUED = WCONTINUED | WNOHANG | WNOWAIT | __WALL };

/* Has any child been continued without having been waited for? Seldom: which, is asked later. */
static void ask_continued(struct question *q)
{
	q->continued_info = batch_out(&q->batch, sizeof(siginfo_t));
	q->continued = 1 + BATCH_CALL(&q->batch, SYS_waitid, P_ALL, 0, q->continued_info,
				      PEEK_CONTINUED);
}

static void take_continued(struct question *q)
{
	const siginfo_t *info;

	if (!q->continued || batch_ret(&q->batch, q->continued - 1) < 0) /* no child at all */
		return;
	info = batch_local(&q->batch, q->continued_info);
	q->d->has_continued = info->si_pid != 0;
}

static bool is_running_child(const struct dump_task *d, const struct dump_task *parent)
{
	return d->t->ppid == parent->t->pid && !d->t->is_zombie &&
	       d->msg->state == CPX__TASK__STATE__RUNNING;
}

static int find_continued(struct session *s, struct dump_task *parent, struct err *err)
{
	for (size_t i = 1; i < s->ntasks; i++) {
		struct batch b = tracee_batch(parent->t);
		uint64_t info = batch_out(&b, sizeof(siginfo_t));
		int ret;

		if (!is_running_child(&s->task[i], parent))
			continue;
		BATCH_CALL(&b, SYS_waitid, P_PID, s->task[i].t->pid, info, PEEK_CONTINUED);
		ret = tracee_thread_run(parent->t, tracee_speaker(parent->t), &b, err);
		if (ret < 0)
			return ret;
		s->task[i].msg->continued =
			batch_ret(&b, 0) == 0 &&
			((const siginfo_t *)batch_local(&b, info))->si_pid != 0;
	}
	return 0;
}

/* The last call: timers that it has been asked about have sent their signals by now. In the loop all signals are blocked, so
 * that all are told. */
static void ask_pending(struct question *q)
{
	if (!tracee_may_call(&q->d->t->thread[q->thread], SYS_rt_sigpending))
		return;
	q->pending_mask = batch_out(&q->batch, sizeof(uint64_t));
	q->pending = 1 + BATCH_CALL(&q->batch, SYS_rt_sigpending, q->pending_mask, sizeof(uint64_t));
}

static void take_pending(struct question *q)
{
	if (q->pending && batch_ret(&q->batch, q->pending - 1) == 0)
		memcpy(&q->d->t->pending_last, batch_local(&q->batch, q->pending_mask), sizeof(uint64_t));
}

static int take_stops(struct question *q, struct err *err)
{
	for (size_t i = 0; i < q->nstops; i++) {
		const struct stop_question *stop = &q->stop[i];
		const siginfo_t *info = batch_local(&q->batch, stop->info);
		int64_t ret = batch_ret(&q->batch, stop->call);

		if (ret < 0)
			return err_sys(err, ret, "waitid of child %d", stop->child->t->pid);
		stop->child->msg->stop_reported = info->si_pid == 0;
	}
	return 0;
}

static int prepare(struct session *s, struct question *q, struct err *err)
{
	int ret = 0;

	q->scratch = calloc(registry_size(), sizeof(*q->scratch));
	if (!q->scratch)
		return err_nomem(err);
	for (size_t k = 0; attr_registry[k] && ret == 0; k++) {
		const struct attr_ops *ops = attr_registry[k];

		if (ops->ask && concerns(q, ops))
			ret = ops->ask(&s->ctx, q->d->t, q->d->msg, q->d->msg->thread[q->thread],
				       &q->batch, q->scratch[k], err);
		if (ret < 0)
			err_context(err, "%s", ops->name);
	}
	if (ret < 0 || !q->is_for_task)
		return ret;
	ask_continued(q);
	ret = ask_stops(s, q, err);
	ask_pending(q);
	return ret;
}

static int take(struct session *s, struct question *q, struct err *err)
{
	int ret = 0;

	for (size_t k = 0; attr_registry[k] && ret == 0; k++) {
		const struct attr_ops *ops = attr_registry[k];

		if (ops->take && concerns(q, ops))
			ret = ops->take(&s->ctx, q->d->t, &q->batch, q->scratch[k], q->d->msg,
					q->d->msg->thread[q->thread], err);
		if (ret < 0)
			err_context(err, "%s", ops->name);
	}
	take_continued(q);
	take_pending(q);
	return ret < 0 ? ret : take_stops(q, err);
}

static void question_release(struct question *q)
{
	free(q->scratch);
	free(q->stop);
}

static bool is_host(const struct tracee *t, size_t thread)
{
	return t->mm_owner == t && thread == tracee_speaker(t);
}

static int context(const struct dump_task *d, struct err *err)
{
	return err_context(err, "task %d (%s)", d->t->pid, d->t->comm);
}

/* Threads that have no lane of their own are stepped, up to ROUND of them at the same time. */
enum { ROUND = 96, CALLS = 64, DATA = 1280 };

struct round {
	struct question question[ROUND];
	struct thread_batch step[ROUND];
	struct call call[ROUND][CALLS];
	size_t n;
};

static int run_round(struct session *s, struct dump_task *d, struct round *r, struct err *err)
{
	int ret;

	for (size_t i = 0; i < r->n; i++)
		r->step[i] = (struct thread_batch){r->question[i].thread, r->question[i].batch};
	ret = tracee_threads_run(d->t, r->step, r->n, err);
	for (size_t i = 0; i < r->n && ret == 0; i++) {
		ret = take(s, &r->question[i], err);
		if (ret < 0)
			context(d, err);
	}
	return ret;
}

static void round_release(struct round *r)
{
	for (size_t i = 0; i < r->n; i++)
		question_release(&r->question[i]);
	r->n = 0;
}

/* Adds the next threads, from *at on. A task's own attributes may need much room: such a thread
 * goes alone. */
static int fill_round(struct session *s, struct dump_task *d, struct round *r, size_t *at,
		      struct err *err)
{
	struct batch whole = tracee_batch(d->t);
	size_t speaker = tracee_speaker(d->t);
	int ret = 0;

	for (; *at < d->t->nthreads && r->n < ROUND && ret == 0; ++*at) {
		struct question *q = &r->question[r->n];
		bool is_alone = *at == speaker;

		if (d->t->thread[*at].is_exited || is_host(d->t, *at))
			continue;
		if (is_alone && r->n > 0)
			return 0;
		*q = (struct question){.d = d, .thread = *at, .is_for_task = is_alone};
		q->batch = is_alone ? whole : batch_part(&whole, r->call[r->n], CALLS, DATA);
		r->n++;
		ret = prepare(s, q, err);
		if (is_alone && ret == 0) {
			++*at;
			return 0;
		}
	}
	return ret < 0 ? context(d, err) : 0;
}

static bool has_others(const struct tracee *t)
{
	return t->nthreads > 1 || !is_host(t, 0);
}

static int ask_others(struct session *s, struct dump_task *d, struct err *err)
{
	_cleanup_free_ struct round *r = has_others(d->t) ? calloc(1, sizeof(*r)) : NULL;
	size_t at = 0;
	int ret = 0;

	if (!has_others(d->t))
		return 0;
	if (!r)
		return err_nomem(err);
	while (at < d->t->nthreads && ret == 0) {
		ret = fill_round(s, d, r, &at, err);
		if (ret == 0 && r->n > 0)
			ret = run_round(s, d, r, err);
		round_release(r);
	}
	return ret;
}

/* Hands their batches to all threads that sit in the loop before waiting for the first. */
static int ask_hosts(struct session *s, struct question *q, struct err *err)
{
	size_t posted = 0;
	int ret = 0;

	for (; posted < s->ntasks && ret == 0; posted++) {
		struct dump_task *d = &s->task[posted];

		q[posted] = (struct question){
			.d = d, .thread = tracee_speaker(d->t), .is_for_task = true};
		if (d->t->is_zombie || !is_host(d->t, q[posted].thread))
			continue;
		q[posted].batch = tracee_batch(d->t);
		ret = prepare(s, &q[posted], err);
		if (ret < 0)
			return context(d, err);
		ret = tracee_post(d->t, &q[posted].batch, err);
	}
	for (size_t i = 0; i < posted && ret == 0; i++) {
		if (!q[i].scratch)
			continue;
		ret = tracee_wait(q[i].d->t, err);
		if (ret < 0)
			return ret;
		ret = take(s, &q[i], err);
		if (ret < 0)
			context(q[i].d, err);
	}
	return ret;
}

static int reread_one(struct session *s, struct dump_task *d, const struct attr_ops *ops,
		      struct err *err)
{
	int ret = 0;

	if (!ops->per_thread)
		return ops->reread(&s->ctx, d->t, NULL, d->msg, NULL, err);
	for (size_t i = 0; i < d->t->nthreads && ret == 0; i++)
		if (!d->t->thread[i].is_exited)
			ret = ops->reread(&s->ctx, d->t, &d->t->thread[i], d->msg,
					  d->msg->thread[i], err);
	return ret;
}

static int reread(struct session *s, struct dump_task *d, struct err *err)
{
	int ret = 0;

	for (size_t k = 0; attr_registry[k] && ret == 0; k++)
		if (attr_registry[k]->reread)
			ret = reread_one(s, d, attr_registry[k], err);
	return ret < 0 ? context(d, err) : 0;
}

/* ---- beforehand ---- */

/* Of the size of a lane's, and where none ever is. */
enum { REHEARSAL_DATA = 128 << 10, REHEARSAL_AT = CPX_PAGE_SIZE };

static int rehearse(struct session *s, struct dump_task *d, size_t thread, struct batch *b,
		    struct err *err)
{
	const struct tracee *t = d->t;
	struct question q = {.d = d,
			     .thread = thread,
			     .batch = *b,
			     .is_for_task = thread == tracee_speaker(t)};
	struct err why = ERR_INIT;
	int ret = prepare(s, &q, err);

	if (ret == 0)
		ret = tracee_may_run(&t->thread[thread], &q.batch, &why);
	if (ret == 0 && is_host(t, thread))
		ret = tracee_may_host(&t->thread[thread], &why);
	question_release(&q);
	return ret == -EOPNOTSUPP ? collect_closed(s, t, "seccomp", &why, err) : ret;
}

int ask_permission(struct session *s, struct err *err)
{
	_cleanup_free_ struct call *call = calloc(LANE_CALLS, sizeof(*call));
	_cleanup_free_ uint8_t *data = calloc(1, REHEARSAL_DATA);
	int ret = 0;

	if (!call || !data)
		return err_nomem(err);
	for (size_t i = 0; i < s->ntasks; i++)
		for (size_t k = 0; k < s->task[i].t->nthreads && ret == 0; k++) {
			struct batch b = {.call = call,
					  .max = LANE_CALLS,
					  .data = data,
					  .remote_data = REHEARSAL_AT,
					  .size = REHEARSAL_DATA};

			if (s->task[i].t->thread[k].seccomp > 0)
				ret = rehearse(s, &s->task[i], k, &b, err);
		}
	return ret < 0 ? ret : 0;
}

int collect_attributes(struct session *s, struct err *err)
{
	struct question *q;
	int ret;

	if (s->is_closed_to_us)
		return 0;
	q = calloc(s->ntasks, sizeof(*q));
	if (!q)
		return err_nomem(err);
	ret = ask_hosts(s, q, err);
	for (size_t i = 0; i < s->ntasks; i++)
		question_release(&q[i]);
	free(q);
	for (size_t i = 0; i < s->ntasks && ret == 0; i++)
		if (!s->task[i].t->is_zombie)
			ret = ask_others(s, &s->task[i], err);
	for (size_t i = 0; i < s->ntasks && ret == 0; i++)
		if (!s->task[i].t->is_zombie)
			ret = reread(s, &s->task[i], err);
	for (size_t i = 0; i < s->ntasks && ret == 0; i++)
		if (s->task[i].has_continued)
			ret = find_continued(s, &s->task[i], err);
	return ret;
}
