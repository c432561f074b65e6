/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stopping a whole tree: passes over task/ and children of all known tasks, until one finds
 * nothing new. Children are looked for only when all threads of their parent stand, so that the
 * list is final, and so that the child of a vfork (whose parent cannot stop before it has gone on)
 * runs.
 *
 * PTRACE_SEIZE and PTRACE_INTERRUPT, nothing that a task could notice: ptrace(2).
 */
#include "tracee/tracee_priv.h"

#include "base/interrupt.h"
#include "base/log.h"
#include "base/util.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define DEFAULT_TIMEOUT_MS 10000
#define LOOK_MS 1 /* between looks when no stop is announced */

/* ---- the list of tasks and threads ---- */

pid_t tracee_live_tid(const struct tracee *t)
{
	return t->thread[t->thread[0].is_exited && t->nthreads > 1 ? 1 : 0].tid;
}

struct tracee *tree_find(const struct tree *tree, pid_t pid)
{
	for (size_t i = 0; i < tree->n; i++)
		if (tree->task[i]->pid == pid)
			return tree->task[i];
	return NULL;
}

static struct tracee_thread *find_thread(const struct tracee *t, pid_t tid)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->thread[i].tid == tid)
			return &t->thread[i];
	return NULL;
}

static int add_thread(struct tracee *t, pid_t tid, struct tracee_thread **ret, struct err *err)
{
	struct tracee_thread *grown;

	grown = reallocarray(t->thread, t->nthreads + 1, sizeof(*grown));
	if (!grown)
		return err_nomem(err);
	t->thread = grown;
	*ret = &grown[t->nthreads++];
	**ret = (struct tracee_thread){.tid = tid, .seccomp = -1, .sleep_nr = -1};
	return 0;
}

static void drop_thread(struct tracee *t, size_t i)
{
	free(t->thread[i].xstate);
	free(t->thread[i].saved);
	memmove(&t->thread[i], &t->thread[i + 1], (--t->nthreads - i) * sizeof(t->thread[0]));
}

static void drop_gone(struct tracee *t)
{
	for (size_t i = t->nthreads; i-- > 0;)
		if (t->thread[i].where == THREAD_GONE)
			drop_thread(t, i);
}

static void tracee_free(struct tracee *t)
{
	if (!t)
		return;
	inject_release(t);
	inject_forget_maps(t);
	while (t->nthreads)
		drop_thread(t, t->nthreads - 1);
	free(t->thread);
	if (t->pidfd >= 0)
		close(t->pidfd);
	free(t);
}

void tree_release(struct tree *tree)
{
	for (size_t i = 0; i < tree->n; i++)
		tracee_free(tree->task[i]);
	free(tree->task);
	gadget_cache_free(tree->gadgets);
	sleep_clocks_free(tree->clocks);
	filter_pool_free(tree->filters);
	*tree = (struct tree){0};
}

static int task_err(const struct tracee *t, struct err *err, int r)
{
	if (r < 0)
		err_context(err, "task %d (%s)", t->pid, t->comm);
	return r;
}

/* ---- who may not be frozen ---- */

/* Freezing an ancestor with its children, or ourselves, would freeze us. */
static int check_not_self(pid_t root, const struct freeze_options *o, struct err *err)
{
	pid_t pid = getpid();

	for (int depth = 0; pid > 0 && depth < 4096; depth++) {
		_cleanup_close_ int dir = -1;
		struct proc_stat st;

		if (pid == root)
			return err_set(err, -EINVAL,
				       depth ? "cpx itself runs in the tree of task %d"
					     : "task %d is cpx itself",
				       root);
		if (o->no_children || proc_open(-1, pid, 0, &dir, NULL) ||
		    proc_stat(dir, &st, NULL))
			return 0;
		pid = st.ppid;
	}
	return 0;
}

static int check_task(struct freezer *f, struct tracee *t, int dir, const struct proc_stat *st,
		      struct err *err)
{
	uint64_t ns;
	int r;

	if (st->flags & PROC_PF_KTHREAD)
		return err_set(err, -EINVAL, "is a kernel thread");
	if (t->pid == getpid())
		return err_set(err, -EINVAL, "is cpx itself");
	r = proc_ns_id(dir, "pid", &ns, err);
	if (r == -EACCES || r == -EPERM)
		return seize_explain(dir, r, err);
	if (r == -ENOENT)
		return -ESRCH; /* it is exiting: its namespaces go before it does */
	if (r == 0 && ns != f->pid_ns)
		return err_set(err, -EOPNOTSUPP,
			       "is in another PID namespace, which is not supported yet");
	return r;
}

/* ---- seizing ---- */

/* What costs time is looked up before the first of them is stopped. */
static int add_new_threads(struct tracee *t, const pid_t *tid, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct tracee_thread *th = NULL;
		int r;

		if (find_thread(t, tid[i]))
			continue;
		r = add_thread(t, tid[i], &th, err);
		if (r)
			return task_err(t, err, r);
		/* Interrupted, a helper of an io_uring would fail the request that it is at; and it
		 * runs none of the task's code. */
		if (!asleep_before(t, th))
			drop_thread(t, t->nthreads - 1);
	}
	return 0;
}

static int seize_from(struct freezer *f, struct tracee *t, size_t first, struct err *err)
{
	struct seize_guard guard;
	bool is_guarded = t->nthreads > 1;
	int r = is_guarded && first < t->nthreads ? seize_guard(&guard, err) : 0;

	if (r || first == t->nthreads)
		return task_err(t, err, r);
	for (size_t i = first; r == 0 && i < t->nthreads; i++) {
		r = seize_thread(t, &t->thread[i], err);
		if (!f->tree->frozen_at_ns)
			f->tree->frozen_at_ns = monotonic_ns();
	}
	if (is_guarded)
		seize_unguard(&guard);
	return task_err(t, err, r);
}

/*
 * Somebody has died. It may have been by an execve in another thread, which then has the leader's
 * number; if we had seized it under its old one, it was interrupted under a number that was no
 * longer its own, or stands no more. So whoever is not certain to stand is interrupted again, and an
 * exited leader is looked for again.
 */
static void doubt(struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];
		siginfo_t info;

		if (th->is_exited)
			th->where = THREAD_GONE;
		else if (th->where == THREAD_SEIZED)
			stop_interrupt(th->tid);
		else if (ptrace(PTRACE_GETSIGINFO, th->tid, 0, &info)) {
			th->where = THREAD_SEIZED;
			stop_interrupt(th->tid);
		}
	}
	drop_gone(t);
	t->threads_complete = false;
}

static bool drop_gone_and_doubt(struct tracee *t)
{
	size_t n = t->nthreads;

	drop_gone(t);
	if (t->nthreads == n)
		return false;
	doubt(t);
	return true;
}

static bool is_alive(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 0;
}

/* Seizes all threads not known yet. Returns how many, or -errno. */
static int seize_new_threads(struct freezer *f, struct tracee *t, struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *tid = NULL;
	size_t n = 0, known = t->nthreads;
	int r, found;

	r = proc_open(-1, t->pid, 0, &dir, err);
	if (r == 0)
		r = proc_tids(dir, &tid, &n, err);
	if (r == -ESRCH && is_alive(t->pidfd))
		return 1; /* without a number for an instant, in an execve */
	if (r == -ESRCH)
		n = 0; /* it ended: no thread remains and it is dropped */
	else if (r)
		return task_err(t, err, r);
	r = add_new_threads(t, tid, n, err);
	if (r == 0)
		r = seize_from(f, t, known, err);
	found = (int)(t->nthreads - known);
	drop_gone_and_doubt(t);
	return r ? r : found;
}

/* ---- waiting ---- */

/* Returns how many threads of the task are still to stop. */
static size_t poll_task(struct tracee *t)
{
	size_t running = 0;

	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];
		enum stop s;

		if (th->where != THREAD_SEIZED)
			continue;
		s = stop_poll(th);
		if (s == STOP_TRAP)
			th->where = THREAD_STOPPED;
		else if (s == STOP_GONE)
			th->where = THREAD_GONE;
		running += s == STOP_NONE;
	}
	return drop_gone_and_doubt(t) ? t->nthreads : running;
}

/* For a task that takes its time: a leader that exits on its way to the stop is not reported while
 * other threads live; one that stood may be killed by another's execve, which waits for us to reap
 * it. */
static void look_closer(struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++) {
		struct tracee_thread *th = &t->thread[i];

		if (th->where == THREAD_SEIZED && th->tid == t->pid &&
		    stop_is_zombie(th->tid)) {
			th->is_exited = true;
			th->where = THREAD_STOPPED;
		} else if (th->where == THREAD_STOPPED && !th->is_exited &&
			   stop_poll(th) == STOP_GONE) {
			th->where = THREAD_GONE;
		}
	}
	drop_gone_and_doubt(t);
}

static size_t poll_all(struct tree *tree)
{
	size_t running = 0;

	for (size_t i = 0; i < tree->n; i++)
		if (!tree->task[i]->threads_complete)
			running += poll_task(tree->task[i]);
	return running;
}

static int explain_running(struct tracee *t, const struct tracee_thread *th, struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *child = NULL;
	struct proc_stat st = {.state = '?'};
	size_t n = 0;

	if (proc_open(-1, t->pid, th->tid, &dir, NULL) == 0)
		proc_stat(dir, &st, NULL);
	for (size_t i = 0; dir >= 0 && i == 0 && proc_children(dir, &child, &n, NULL) == 0; i++)
		;
	for (size_t i = 0; i < n; i++)
		if (st.state == 'D' &&
		    syscall(SYS_kcmp, th->tid, child[i], /* KCMP_VM */ 1, 0, 0) == 0)
			return err_set(err, -EBUSY,
				       "thread %d is in vfork: its child %d neither runs "
				       "a program nor ends",
				       th->tid, child[i]);
	return err_set(err, -EBUSY, "thread %d does not stop (state %c%s)", th->tid, st.state,
		       st.state == 'D' ? ", waiting uninterruptibly" : "");
}

static int wait_failed(struct tree *tree, struct err *err)
{
	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];

		for (size_t j = 0; j < t->nthreads; j++)
			if (t->thread[j].where == THREAD_SEIZED)
				return task_err(t, err, explain_running(t, &t->thread[j], err));
	}
	return err_set(err, -EBUSY, "a thread does not stop");
}

static int wait_all(struct freezer *f, struct err *err)
{
	sigset_t saved;
	int r = 0;

	stops_watch(&saved);
	while (r == 0 && poll_all(f->tree)) {
		r = interrupt_check(err);
		if (r == 0 && monotonic_ns() > f->deadline)
			r = wait_failed(f->tree, err);
		if (r == 0 && !stops_sleep(LOOK_MS))
			for (size_t i = 0; i < f->tree->n; i++)
				if (!f->tree->task[i]->threads_complete)
					look_closer(f->tree->task[i]);
	}
	stops_unwatch(&saved);
	return r;
}

/* ---- passes ---- */

static int examine(struct freezer *f, struct tracee *t, struct tracee *parent, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;
	int r = proc_open(-1, t->pid, 0, &dir, err);

	if (r == 0)
		r = proc_stat(dir, &st, err);
	if (r)
		return r;
	snprintf(t->comm, sizeof(t->comm), "%.31s", st.comm);
	t->ppid = st.ppid;
	if (parent && st.ppid != parent->pid)
		return -ESRCH; /* the number is another task's by now */
	t->is_zombie = proc_is_dead(st.state) && st.num_threads <= 1;
	return t->is_zombie ? 0 : check_task(f, t, dir, &st, err);
}

static int tree_add(struct tree *tree, struct tracee *t, struct err *err)
{
	if (grow(&tree->task, &tree->max, tree->n, sizeof(tree->task[0])))
		return err_nomem(err);
	tree->task[tree->n++] = t;
	return 0;
}

static struct tracee *new_task(struct freezer *f, pid_t pid)
{
	struct tracee *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct tracee){.pid = pid, .tree = f->tree, .subreaper = -1, .pending_last = ~0ULL};
	snprintf(t->comm, sizeof(t->comm), "?");
	t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return t;
}

int freeze_add_task(struct freezer *f, pid_t pid, struct tracee *parent, struct err *err)
{
	struct tracee *first = tree_find(&f->first, pid), *t = first ? first : new_task(f, pid);
	int r;

	if (!t)
		return err_nomem(err);
	t->parent = parent;
	r = t->pidfd < 0 ? err_sys(err, -errno, "cannot open a pidfd") : 0;
	if (r == 0)
		r = examine(f, t, parent, err);
	if (r == 0 && !t->is_zombie && !is_alive(t->pidfd)) {
		t->is_zombie = parent != NULL;
		r = parent ? 0 : -ESRCH;
	}
	if (r == 0)
		r = tree_add(f->tree, t, err);
	if (r && r != -ESRCH)
		task_err(t, err, r);
	if (r && !first)
		tracee_free(t);
	else if (r == 0 && first)
		freeze_take_first(f, first);
	return r;
}

static int add_children(struct freezer *f, struct tracee *t, size_t *found, struct err *err)
{
	_cleanup_free_ pid_t *child = NULL;
	size_t n = 0;
	int r = proc_children_of(-1, t->pid, &child, &n, err);

	if (r == -ESRCH)
		return 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (tree_find(f->tree, child[i]))
			continue;
		r = freeze_add_task(f, child[i], t, err);
		/* One that has gone is not listed the next time; one in the middle of an execve, which
		 * for an instant has no number, is. */
		*found += r == 0 || r == -ESRCH;
		if (r == -ESRCH)
			r = 0;
	}
	return r;
}

static int check_time(const struct freezer *f, struct err *err)
{
	if (monotonic_ns() > f->deadline)
		return err_set(err, -EBUSY, "its threads do not come to a rest");
	return interrupt_check(err);
}

int freeze_threads(struct freezer *f, struct err *err)
{
	size_t found;

	do {
		/* A killed thread that another tracer does not reap is found again and again. */
		int r = check_time(f, err);

		if (r)
			return r;
		found = 0;
		for (size_t i = 0; i < f->tree->n; i++) {
			struct tracee *t = f->tree->task[i];

			if (t->threads_complete || t->is_zombie)
				continue;
			r = seize_new_threads(f, t, err);
			if (r < 0)
				return r;
			t->threads_complete = r == 0;
			found += !t->threads_complete;
		}
		r = wait_all(f, err);
		if (r)
			return r;
	} while (found);
	return 0;
}

static bool has_live_thread(const struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (!t->thread[i].is_exited)
			return true;
	return false;
}

/* A task without live threads has ended meanwhile: its frozen parent has a zombie, or (gone from
 * /proc) nothing. */
static int settle_ended(struct tree *tree, struct err *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];
		_cleanup_close_ int dir = -1;
		struct proc_stat st;

		if (!t->is_zombie && !has_live_thread(t)) {
			if (!t->parent)
				return err_set(err, -ESRCH, "task %d (%s) ended", t->pid, t->comm);
			t->is_zombie = true;
			t->nthreads = 0;
		}
		if (t->is_zombie && t->parent &&
		    (proc_open(-1, t->pid, 0, &dir, NULL) || proc_stat(dir, &st, NULL))) {
			tracee_free(t);
			continue;
		}
		tree->task[kept++] = t;
	}
	tree->n = kept;
	return 0;
}

static int freeze_all(struct freezer *f, struct err *err)
{
	size_t found;

	do {
		int r = freeze_threads(f, err);
		size_t n = f->tree->n; /* those that are added do not stand yet */

		found = 0;
		for (size_t i = 0; r == 0 && !f->o->no_children && i < n; i++)
			if (!f->tree->task[i]->is_zombie)
				r = add_children(f, f->tree->task[i], &found, err);
		if (r)
			return r;
	} while (found);
	return settle_ended(f->tree, err);
}

/* ---- registers and the like ---- */

#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#endif
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

struct rseq_configuration {
	uint64_t area;
	uint32_t size, signature, flags, pad;
};

static int settle_rseq(struct tracee_thread *th, struct err *err)
{
	struct rseq_configuration c;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, th->tid, sizeof(c), &c) < 0 || !c.area)
		return 0;
	return arch_rseq_abort(th->tid, &th->regs, c.area, c.signature, err);
}

static int read_thread(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	int r;

	if (th->is_exited)
		return 0;
	r = arch_get_regs(th->tid, &th->regs, err);
	if (r == 0 && !arch_is_native(&th->regs))
		r = err_set(err, -EOPNOTSUPP, "32-bit programs cannot be checkpointed yet");
	if (r == 0)
		r = arch_get_xstate(th->tid, &th->xstate, err);
	if (r == 0 && ptrace(PTRACE_GETSIGMASK, th->tid, sizeof(th->sigmask), &th->sigmask))
		r = err_sys(err, -errno, "cannot read the signal mask");
	if (r == 0)
		r = settle_rseq(th, err);
	if (r == 0)
		r = asleep_after(t, th, err);
	return r;
}

static int read_task(struct tracee *t, struct err *err)
{
	bool in_group_stop = false;
	int r = 0, stop_signal = 0;

	for (size_t i = 0; r == 0 && i < t->nthreads; i++) {
		r = read_thread(t, &t->thread[i], err);
		if (t->thread[i].in_group_stop)
			stop_signal = t->thread[i].stop_signal;
		in_group_stop |= t->thread[i].in_group_stop;
	}
	/* A stop that was just beginning: it is the whole task's. */
	for (size_t i = 0; i < t->nthreads; i++) {
		t->thread[i].in_group_stop = in_group_stop;
		t->thread[i].stop_signal = stop_signal;
	}
	return task_err(t, err, r);
}

static int compare_threads(const void *a, const void *b)
{
	const struct tracee_thread *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

/* Leader first, the others by number. */
static void sort_threads(struct tracee *t)
{
	qsort(t->thread, t->nthreads, sizeof(t->thread[0]), compare_threads);
	for (size_t i = 1; i < t->nthreads; i++) {
		struct tracee_thread leader = t->thread[i];

		if (leader.tid != t->pid)
			continue;
		memmove(&t->thread[1], &t->thread[0], i * sizeof(leader));
		t->thread[0] = leader;
	}
}

static int read_all(struct tree *tree, struct err *err)
{
	for (size_t i = 0; i < tree->n; i++) {
		int r;

		if (tree->task[i]->is_zombie)
			continue;
		sort_threads(tree->task[i]);
		r = read_task(tree->task[i], err);
		if (r)
			return r;
	}
	return 0;
}

/* ---- shared address spaces ---- */

/* kcmp(2) gives an order: owners are kept sorted by it, so that this is n log n. */
static int place_owner(struct tracee **owner, size_t n, struct tracee *t, size_t *ret_at)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		long c = syscall(SYS_kcmp, tracee_live_tid(t), tracee_live_tid(owner[mid]),
				 /* KCMP_VM */ 1, 0, 0);

		if (c == 0) {
			t->mm_owner = owner[mid];
			return 0;
		}
		if (c < 0 || c == 3)
			break;
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	t->mm_owner = t;
	*ret_at = lo;
	return 1;
}

static int find_owners(struct tree *tree, struct err *err)
{
	_cleanup_free_ struct tracee **owner = calloc(tree->n + 1, sizeof(*owner));
	size_t n = 0, at;

	if (!owner)
		return err_nomem(err);
	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];

		t->mm_owner = t;
		if (t->is_zombie || !place_owner(owner, n, t, &at))
			continue;
		memmove(&owner[at + 1], &owner[at], (n - at) * sizeof(*owner));
		owner[at] = t;
		n++;
	}
	return 0;
}

/* ---- all of it ---- */

static int own_pid_ns(uint64_t *ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = proc_open(-1, getpid(), 0, &dir, err);

	return r ? r : proc_ns_id(dir, "pid", ret, err);
}

static int freeze(struct freezer *f, pid_t root, struct err *err)
{
	int r = check_not_self(root, f->o, err);

	if (r == 0)
		r = own_pid_ns(&f->pid_ns, err);
	if (r)
		return r;
	r = freeze_first(f, err);
	if (r == 0)
		r = freeze_add_task(f, root, NULL, err);
	if (r == -ESRCH)
		return err_set(err, r, "task %d does not exist", root);
	if (r == 0 && f->tree->task[0]->is_zombie)
		return err_set(err, -ESRCH, "task %d (%s) is a zombie", root,
			       f->tree->task[0]->comm);
	if (r == 0)
		r = freeze_all(f, err);
	if (r == 0)
		r = read_all(f->tree, err);
	return r ? r : find_owners(f->tree, err);
}

int tree_freeze(struct tree *tree, pid_t root, const struct freeze_options *o, struct err *err)
{
	unsigned ms = o->timeout_ms ? o->timeout_ms : DEFAULT_TIMEOUT_MS;
	struct freezer f = {
		.tree = tree,
		.o = o,
		.deadline = monotonic_ns() + ms * 1000000ULL,
	};
	int r;

	*tree = (struct tree){0};
	r = freeze(&f, root, err);
	freeze_release_first(&f);
	if (r)
		tree_thaw(tree, THAW_RUN);
	return r;
}
