/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interval timers (setitimer(2)) and POSIX timers (timer_create(2)), with their ids. Reads
 * /proc/PID/timers (CONFIG_CHECKPOINT_RESTORE), asks getitimer(2), timer_gettime(2),
 * timer_getoverrun(2).
 *
 * Timers keep the time that remained, also those that were set to a point of CLOCK_REALTIME (the
 * kernel does not tell). A periodic timer whose signal is pending is started so far in the past
 * that the kernel queues that signal itself, and one with an overrun count that it counts the same;
 * expirations beyond the first that a pending signal has gathered are in no interface and are lost.
 * Refused: CPU clocks of unknown threads, clocks of devices, notification of threads that have
 * ended.
 */
#include "res/attr.h"
#include "res/timers.h"

#include "base/kabi.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define NS_PER_S 1000000000ULL

/* ---- pending signals --------------------------------------------------------------------------
 */

static bool is_pending_in(const ProtobufCBinaryData *queue, size_t n, uint32_t signo,
			  const Cpx__PosixTimer *timer)
{
	for (size_t i = 0; i < n; i++) {
		const siginfo_t *si = (const siginfo_t *)queue[i].data;

		if (timer ? si->si_code == SI_TIMER && si->si_timerid == timer->id
			  : si->si_signo == (int)signo)
			return true;
	}
	return false;
}

/* timer NULL: any signal of that number; else the one of that timer. */
static bool is_pending(const Cpx__Task *task, uint32_t signo, const Cpx__PosixTimer *timer)
{
	if (task->signals &&
	    is_pending_in(task->signals->pending, task->signals->n_pending, signo, timer))
		return true;
	for (size_t i = 0; i < task->n_thread; i++) {
		const Cpx__ThreadSignals *s = task->thread[i]->signals;

		if (s && is_pending_in(s->pending, s->n_pending, signo, timer))
			return true;
	}
	return false;
}

/*
 * Timers go on while the tree is frozen, and the queues are read some time before the timers: one
 * that has expired in between is without its signal in the record, which is then added as the
 * kernel has queued it. rt_sigpending(2) after the timers are read tells. (That another sender's
 * signal of the same number is taken for it does no harm: it was pending before the tree went on.)
 */
static unsigned ask_pending(struct batch *b, uint64_t *ret_mask)
{
	*ret_mask = batch_out(b, sizeof(uint64_t));
	return BATCH_CALL(b, SYS_rt_sigpending, *ret_mask, sizeof(uint64_t));
}

static int take_pending(const struct batch *b, unsigned call, uint64_t remote, uint64_t *ret_mask,
			struct err *err)
{
	int r = attr_result(b, call, "read the set of pending signals", err);

	if (r == 0)
		memcpy(ret_mask, batch_local(b, remote), sizeof(*ret_mask));
	return r;
}

static bool has_signal(uint64_t mask, uint32_t signo)
{
	return signo && mask >> (signo - 1) & 1;
}

static int add_pending(ProtobufCBinaryData **queue, size_t *n, const siginfo_t *si, struct err *err)
{
	return msg_append_bytes(queue, n, si, sizeof(*si)) < 0 ? err_nomem(err) : 0;
}

/* ---- interval timers ---- */

#define ITIMERS 3

static int itimers_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		       const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[0] = batch_out(b, ITIMERS * sizeof(struct itimerval));
	scratch[1] = b->n;
	for (unsigned i = 0; i < ITIMERS; i++)
		BATCH_CALL(b, SYS_getitimer, i, scratch[0] + i * sizeof(struct itimerval));
	scratch[2] = ask_pending(b, &scratch[3]);
	return 0;
}

static uint64_t usec(const struct timeval *tv)
{
	return tv->tv_sec * 1000000ULL + tv->tv_usec;
}

static int add_itimer(Cpx__Task *task, unsigned which, const struct itimerval *it, struct err *err)
{
	Cpx__Itimer *timer = MSG_NEW(Cpx__Itimer, cpx__itimer__init);

	if (!timer || msg_append(&task->itimer, &task->n_itimer, timer) < 0) {
		free(timer);
		return err_nomem(err);
	}
	timer->which = which;
	timer->interval_us = usec(&it->it_interval);
	timer->value_us = usec(&it->it_value);
	return 0;
}

static const int itimer_signal[ITIMERS] = {SIGALRM, SIGVTALRM, SIGPROF};

/* ITIMER_REAL stands still from its expiry until the signal is delivered, the others go on. */
static int add_lost_alarm(Cpx__Task *task, unsigned which, const struct itimerval *it,
			  uint64_t pending, struct err *err)
{
	int sig = itimer_signal[which];
	siginfo_t si = {.si_signo = sig, .si_code = SI_KERNEL};

	if (!has_signal(pending, sig) || is_pending(task, sig, NULL) ||
	    (which == ITIMER_REAL && usec(&it->it_value)))
		return 0;
	return add_pending(&task->signals->pending, &task->signals->n_pending, &si, err);
}

static int itimers_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	const struct itimerval *it = batch_local(b, scratch[0]);
	uint64_t pending = 0;
	int r = take_pending(b, scratch[2], scratch[3], &pending, err);

	for (unsigned i = 0; i < ITIMERS && r == 0; i++) {
		r = attr_result(b, scratch[1] + i, "read an interval timer", err);
		if (r == 0 && (usec(&it[i].it_interval) || usec(&it[i].it_value)))
			r = add_itimer(task, i, &it[i], err);
		if (r == 0)
			r = add_lost_alarm(task, i, &it[i], pending, err);
	}
	return r;
}

static int itimers_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			 struct err *err)
{
	for (size_t i = 0; i < task->n_itimer; i++)
		if (task->itimer[i]->which >= ITIMERS)
			return err_set(err, -EBADMSG, "interval timer %u", task->itimer[i]->which);
	return 0;
}

/* ITIMER_REAL with an interval but no value has fired, and the kernel starts it again when the
 * SIGALRM that is still pending gets delivered (kernel/time/itimer.c). Firing at once makes that so
 * again: its SIGALRM merges with the pending one. */
static uint64_t next_expiry_us(const Cpx__Task *task, const Cpx__Itimer *t)
{
	if (t->value_us || t->which != ITIMER_REAL || !is_pending(task, SIGALRM, NULL))
		return t->value_us;
	return 1;
}

static int itimers_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	for (size_t i = 0; i < task->n_itimer && stage == GIVE_LATE; i++) {
		const Cpx__Itimer *t = task->itimer[i];
		uint64_t value = next_expiry_us(task, t);
		struct itimerval it = {
			.it_interval = {t->interval_us / 1000000, t->interval_us % 1000000},
			.it_value = {value / 1000000, value % 1000000},
		};

		BATCH_CALL(b, SYS_setitimer, t->which, batch_in(b, &it, sizeof(it)), 0);
	}
	return 0;
}

const struct attr_ops itimers_attr_ops = {
	.name = "interval timers",
	.ask = itimers_ask,
	.take = itimers_take,
	.check = itimers_check,
	.give = itimers_give,
};

/* ---- POSIX timers: clocks ---- */

/* Negative clock ids are CPU clocks, include/linux/posix-timers_types.h: ~pid << 3 | thread << 2 |
 * kind. */
enum { CPU_KIND = 3, CPU_KIND_FD = 3, CPU_IS_THREAD = 4 };

static pid_t cpu_clock_pid(int clock)
{
	return ~(clock >> 3);
}

static bool is_cpu_clock(int clock)
{
	return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}

static bool is_calling_thread_clock(int clock)
{
	return clock == CLOCK_THREAD_CPUTIME_ID ||
	       (clock < 0 && clock & CPU_IS_THREAD && !cpu_clock_pid(clock));
}

static bool has_live_thread(const struct tracee *t, pid_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->thread[i].tid == tid && !t->thread[i].is_exited)
			return true;
	return false;
}

static const char *why_unclockable(const struct dump_ctx *c, const struct tracee *t, int clock)
{
	pid_t pid = cpu_clock_pid(clock);

	if (is_calling_thread_clock(clock))
		return t->nthreads > 1 ? "it measures the CPU time of an unknown thread" : NULL;
	if (clock >= 0)
		return NULL;
	if ((clock & CPU_KIND) == CPU_KIND_FD)
		return "it uses the clock of a device";
	if (!pid ||
	    (clock & CPU_IS_THREAD ? has_live_thread(t, pid) : tree_find(c->tree, pid) != NULL))
		return NULL;
	return "it measures the CPU time of a process or thread that is not there";
}

/* ---- POSIX timers: dump ---- */

/* So many are asked for, and made again, in one batch. */
enum { POSIX_TIMERS_MAX = 300, LINEAR_IDS_MAX = 400 };

static int check_timer(struct dump_ctx *c, const struct tracee *t, const struct proc_timer *pt,
		       struct err *err)
{
	const char *why = why_unclockable(c, t, pt->clock);
	char object[48];

	if (!why && pt->is_tid && !has_live_thread(t, pt->pid))
		why = "it notifies a thread that has ended";
	if (!why)
		return 0;
	snprintf(object, sizeof(object), "POSIX timer %d", pt->id);
	return attr_refuse(c, t, object, err, "cannot be checkpointed: %s", why);
}

static int add_timer(Cpx__Task *task, const struct proc_timer *pt, struct err *err)
{
	Cpx__PosixTimer *timer = MSG_NEW(Cpx__PosixTimer, cpx__posix_timer__init);

	if (!timer || msg_append(&task->posix_timer, &task->n_posix_timer, timer) < 0) {
		free(timer);
		return err_nomem(err);
	}
	timer->id = pt->id;
	timer->clock = pt->clock;
	timer->notify = pt->notify | (pt->is_tid ? SIGEV_THREAD_ID : 0);
	timer->signo = pt->signo;
	timer->sigval = pt->sigval;
	timer->notify_tid = pt->is_tid ? pt->pid : 0;
	return 0;
}

static int compare_timers(const void *a, const void *b)
{
	const Cpx__PosixTimer *x = *(Cpx__PosixTimer *const *)a, *y = *(Cpx__PosixTimer *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int posix_timers_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			     Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	_cleanup_free_ struct proc_timer *timer = NULL;
	_cleanup_close_ int dir = -1;
	size_t n = 0;
	int r = attr_open(c, t, NULL, &dir, err);

	if (r == 0)
		r = proc_timers(dir, &timer, &n, err);
	if (r == -EOPNOTSUPP)
		return attr_refuse(c, t, "POSIX timers", err,
				   "cannot be checkpointed: this kernel does not show them "
				   "(CONFIG_CHECKPOINT_RESTORE)");
	if (r == 0 && n > POSIX_TIMERS_MAX)
		return attr_refuse(c, t, "POSIX timers", err,
				   "cannot be checkpointed: there are %zu, more than %d", n,
				   POSIX_TIMERS_MAX);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = check_timer(c, t, &timer[i], err);
		if (r == 0)
			r = add_timer(task, &timer[i], err);
	}
	if (r == 0 && n)
		qsort(task->posix_timer, task->n_posix_timer, sizeof(*task->posix_timer),
		      compare_timers);
	return r;
}

/* scratch[0]: remote array of values; scratch[1]: the first call: timer_gettime and
 * timer_getoverrun in turn. */
static int posix_timers_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			    const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			    struct err *err)
{
	if (!task->n_posix_timer)
		return 0;
	scratch[0] = batch_out(b, task->n_posix_timer * sizeof(struct itimerspec));
	scratch[1] = b->n;
	for (size_t i = 0; i < task->n_posix_timer; i++) {
		BATCH_CALL(b, SYS_timer_gettime, task->posix_timer[i]->id,
			   scratch[0] + i * sizeof(struct itimerspec));
		BATCH_CALL(b, SYS_timer_getoverrun, task->posix_timer[i]->id);
	}
	scratch[2] = ask_pending(b, &scratch[3]);
	return 0;
}

static uint64_t nsec(const struct timespec *ts)
{
	return ts->tv_sec * NS_PER_S + ts->tv_nsec;
}

/* One that is armed and does not repeat has not expired. */
static int add_lost_expiry(const Cpx__Task *task, const Cpx__PosixTimer *t, uint64_t pending,
			   ProtobufCBinaryData **queue, size_t *n, struct err *err)
{
	siginfo_t si = {.si_signo = t->signo, .si_code = SI_TIMER};

	if (!has_signal(pending, t->signo) || t->notify == SIGEV_NONE ||
	    is_pending(task, t->signo, NULL) || (t->value_ns && !t->interval_ns))
		return 0;
	si.si_timerid = t->id;
	si.si_value.sival_ptr = (void *)(uintptr_t)t->sigval;
	return add_pending(queue, n, &si, err);
}

static int take_timer(const struct batch *b, unsigned call, const struct itimerspec *it,
		      Cpx__PosixTimer *timer, struct err *err)
{
	int r = attr_result(b, call, "read a POSIX timer", err);

	if (r == 0)
		r = attr_result(b, call + 1, "read the overrun count of a POSIX timer", err);
	if (r < 0)
		return r;
	timer->interval_ns = nsec(&it->it_interval);
	timer->value_ns = nsec(&it->it_value);
	timer->overrun = batch_ret(b, call + 1);
	return 0;
}

static int posix_timers_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			     const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			     struct err *err)
{
	const struct itimerspec *it;
	uint64_t pending = 0;
	int r;

	if (!task->n_posix_timer)
		return 0;
	it = batch_local(b, scratch[0]);
	r = take_pending(b, scratch[2], scratch[3], &pending, err);
	for (size_t i = 0; i < task->n_posix_timer && r == 0; i++) {
		Cpx__PosixTimer *timer = task->posix_timer[i];

		r = take_timer(b, scratch[1] + 2 * i, &it[i], timer, err);
		if (r == 0 && !(timer->notify & SIGEV_THREAD_ID))
			r = add_lost_expiry(task, timer, pending, &task->signals->pending,
					    &task->signals->n_pending, err);
	}
	return r;
}

/* ---- POSIX timers: restore ---- */

static bool can_choose_ids(void)
{
	return !is_denied("timer_ids") &&
	       prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0) >= 0;
}

static int check_one(struct restore_ctx *c, const Cpx__Task *task, const Cpx__PosixTimer *t,
		     struct err *err)
{
	char object[48];

	snprintf(object, sizeof(object), "POSIX timer %d", t->id);
	if ((t->clock == CLOCK_REALTIME_ALARM || t->clock == CLOCK_BOOTTIME_ALARM) &&
	    !attr_can_globally(c, CAP_WAKE_ALARM))
		return attr_refuse_restore(
			c, task, object, err,
			"cannot be restored: alarm clocks need cap_wake_alarm; restore as root");
	if (t->id > LINEAR_IDS_MAX && !can_choose_ids())
		return attr_refuse_restore(c, task, object, err,
					   "cannot be restored: this kernel cannot make a timer "
					   "with so high a number; "
					   "Linux 6.16 can");
	return 0;
}

static int posix_timers_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			      struct err *err)
{
	int r = 0;

	if (task->n_posix_timer > POSIX_TIMERS_MAX)
		return err_set(err, -EBADMSG, "task %u has too many POSIX timers", task->pid);
	for (size_t i = 0; i < task->n_posix_timer && r == 0; i++) {
		const Cpx__PosixTimer *t = task->posix_timer[i];

		if (t->id < 0 || (i && t->id <= task->posix_timer[i - 1]->id))
			return err_set(err, -EBADMSG, "POSIX timers of task %u are out of order",
				       task->pid);
		r = check_one(c, task, t, err);
	}
	return r;
}

static void create(struct batch *b, const Cpx__PosixTimer *t, int clock, int id)
{
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};

	if (t) {
		ev.sigev_notify = t->notify;
		ev.sigev_signo = t->signo;
		ev.sigev_value.sival_ptr = (void *)(uintptr_t)t->sigval;
		ev._sigev_un._tid = t->notify_tid;
	}
	BATCH_CALL(b, SYS_timer_create, clock, batch_in(b, &ev, sizeof(ev)),
		   batch_in(b, &id, sizeof(id)));
}

static void create_by_id(const Cpx__Task *task, struct batch *b)
{
	BATCH_CALL(b, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON);
	for (size_t i = 0; i < task->n_posix_timer; i++)
		create(b, task->posix_timer[i], task->posix_timer[i]->clock,
		       task->posix_timer[i]->id);
	BATCH_CALL(b, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_OFF);
}

/* A new task counts from 0, so the ids come by themselves if the gaps are filled meanwhile. */
static void create_in_order(const Cpx__Task *task, struct batch *b)
{
	int id = 0;

	for (size_t i = 0; i < task->n_posix_timer; i++, id++) {
		for (; id < task->posix_timer[i]->id; id++)
			create(b, NULL, CLOCK_MONOTONIC, id);
		create(b, task->posix_timer[i], task->posix_timer[i]->clock, id);
	}
	id = 0;
	for (size_t i = 0; i < task->n_posix_timer; i++, id++)
		for (; id < task->posix_timer[i]->id; id++)
			BATCH_CALL(b, SYS_timer_delete, id);
}

static int posix_timers_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			     const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			     struct err *err)
{
	if (stage != GIVE_MAIN || !task->n_posix_timer)
		return 0;
	if (can_choose_ids())
		create_by_id(task, b);
	else
		create_in_order(task, b);
	return 0;
}

static int posix_timers_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			      const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
			      struct err *err)
{
	size_t at = 0;
	int id;

	for (unsigned i = 0; i < b->n && stage == GIVE_MAIN; i++) {
		if (b->call[i].nr != SYS_timer_create)
			continue;
		if (b->call[i].ret < 0)
			return err_sys(err, b->call[i].ret, "cannot make a POSIX timer on clock %d",
				       (int)b->call[i].arg[0]);
		memcpy(&id, batch_local(b, b->call[i].arg[2]), sizeof(id));
		at += at < task->n_posix_timer && task->posix_timer[at]->id == id;
	}
	if (stage == GIVE_MAIN && at < task->n_posix_timer)
		return err_set(err, -EEXIST, "POSIX timer %d got another number",
			       task->posix_timer[at]->id);
	return 0;
}

const struct attr_ops posix_timers_attr_ops = {
	.name = "POSIX timers",
	.read = posix_timers_read,
	.ask = posix_timers_ask,
	.take = posix_timers_take,
	.check = posix_timers_check,
	.give = posix_timers_give,
	.given = posix_timers_given,
};

/* ---- POSIX timers: started ---- */

/* The kernel can be made to count from a point in the past. */
static bool can_backdate(const Cpx__PosixTimer *t)
{
	return t->interval_ns && t->value_ns && !is_cpu_clock(t->clock) && t->notify != SIGEV_NONE;
}

bool timers_queue_signal(const Cpx__Task *task, int id)
{
	for (size_t i = 0; i < task->n_posix_timer; i++)
		if (task->posix_timer[i]->id == id)
			return can_backdate(task->posix_timer[i]);
	return false;
}

/* To have its overrun count back, the signal of a backdated timer is taken from the queue at once;
 * no other signal of that number may be there to be taken instead. */
static bool has_overrun_to_replay(const Cpx__Task *task, const Cpx__PosixTimer *t)
{
	if (!t->overrun || !can_backdate(t) || is_pending(task, t->signo, NULL))
		return false;
	for (size_t i = 0; i < task->n_posix_timer; i++)
		if (task->posix_timer[i] != t && task->posix_timer[i]->signo == t->signo)
			return false;
	return true;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

/* So that the timer has just expired 1 + overruns times and its next expiry is value_ns away. On a
 * clock that is too young for that (just booted) it has expired once, and the next expiry is a bit
 * off. */
static void start_in_past(const Cpx__PosixTimer *t, uint64_t overruns, struct batch *b)
{
	struct itimerspec it = {.it_interval = timespec_of(t->interval_ns),
				.it_value = timespec_of(1)};
	struct timespec now;
	uint64_t back;

	if (!__builtin_mul_overflow(overruns + 1, t->interval_ns, &back) &&
	    clock_gettime(t->clock, &now) == 0 && nsec(&now) + t->value_ns > back)
		it.it_value = timespec_of(nsec(&now) + t->value_ns - back);
	BATCH_CALL(b, SYS_timer_settime, t->id, TIMER_ABSTIME, batch_in(b, &it, sizeof(it)), 0);
}

static void start(const Cpx__PosixTimer *t, struct batch *b)
{
	struct itimerspec it = {
		.it_interval = timespec_of(t->interval_ns),
		.it_value = timespec_of(t->value_ns),
	};

	if (t->value_ns)
		BATCH_CALL(b, SYS_timer_settime, t->id, 0, batch_in(b, &it, sizeof(it)), 0);
}

static void replay_overrun(const Cpx__PosixTimer *t, struct batch *b)
{
	uint64_t mask = 1ULL << (t->signo - 1);
	struct timespec second = {.tv_sec = 1};

	start_in_past(t, t->overrun, b);
	BATCH_CALL(b, SYS_rt_sigtimedwait, batch_in(b, &mask, sizeof(mask)), 0,
		   batch_in(b, &second, sizeof(second)), sizeof(mask));
}

/* Only the thread that is notified can take the signal; the others are started by the first. */
static bool is_started_by(const Cpx__PosixTimer *t, const Cpx__Task *task, const Cpx__Thread *th)
{
	size_t first = 0;

	if (t->notify & SIGEV_THREAD_ID)
		return t->notify_tid == th->tid;
	while (first + 1 < task->n_thread && task->thread[first]->exited)
		first++;
	return task->thread[first] == th;
}

static int timer_starts_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			     const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			     struct err *err)
{
	for (size_t i = 0; i < task->n_posix_timer && stage == GIVE_LATE; i++) {
		const Cpx__PosixTimer *t = task->posix_timer[i];

		if (!is_started_by(t, task, th))
			continue;
		if (has_overrun_to_replay(task, t))
			replay_overrun(t, b);
		else if (can_backdate(t) && is_pending(task, 0, t))
			start_in_past(t, 0, b);
		else
			start(t, b);
	}
	return 0;
}

static bool is_notified(const Cpx__Task *task, const Cpx__Thread *th)
{
	for (size_t i = 0; i < task->n_posix_timer; i++)
		if (task->posix_timer[i]->notify & SIGEV_THREAD_ID &&
		    task->posix_timer[i]->notify_tid == th->tid)
			return true;
	return false;
}

static int timer_starts_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			    const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			    struct err *err)
{
	if (is_notified(task, th))
		scratch[0] = ask_pending(b, &scratch[1]);
	return 0;
}

static int timer_starts_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			     const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			     struct err *err)
{
	uint64_t pending = 0;
	int r = scratch[1] ? take_pending(b, scratch[0], scratch[1], &pending, err) : 0;

	for (size_t i = 0; i < task->n_posix_timer && r == 0 && pending; i++) {
		const Cpx__PosixTimer *timer = task->posix_timer[i];

		if (timer->notify & SIGEV_THREAD_ID && timer->notify_tid == th->tid)
			r = add_lost_expiry(task, timer, pending, &th->signals->pending,
					    &th->signals->n_pending, err);
	}
	return r;
}

const struct attr_ops timer_starts_attr_ops = {
	.name = "start of POSIX timers",
	.per_thread = true,
	.ask = timer_starts_ask,
	.take = timer_starts_take,
	.give = timer_starts_give,
};
