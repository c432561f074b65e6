/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin of an address space: a fork that the application never sees. The host thread clones a
 * midwife that shares its memory, the midwife forks the twin and ends, the host reaps it, all in
 * one batch: so the twin is an orphan before anybody can look, adopted by init, and no SIGCHLD is
 * sent (exit_signal 0). Where a task of the tree would be the one to adopt it there is no twin.
 */
#include "tracee/tracee_priv.h"

#include "base/background.h"
#include "base/log.h"
#include "base/util.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The midwife's lane is free again once she is reaped: it becomes that of the twin's helper. */
enum { LANE_HOST, LANE_MIDWIFE, LANE_TWIN, LANE_HELPER = LANE_MIDWIFE };

#define NO_PID 0x7fffffffU

static int check_adopters(struct tracee *t, struct err *err)
{
	for (struct tracee *a = t; a; a = a->parent) {
		bool adopts;
		int r = a->pid == 1 ? -EOPNOTSUPP : inject_is_subreaper(a, &adopts, err);

		if (a->pid == 1)
			return err_set(err, r, "task 1 is in the tree and would adopt a twin");
		if (r)
			return r;
		if (adopts)
			return err_set(err, -EOPNOTSUPP,
				       "task %d (%s) is a subreaper and would adopt a twin", a->pid,
				       a->comm);
	}
	return 0;
}

/* Our view of the lanes outlives the injection. */
static int share_lanes(struct tracee *t, struct twin *w, struct err *err)
{
	int r;

	w->mailbox = mailbox_share(&t->mailbox);
	r = lane_init(mailbox_lane(&w->mailbox, LANE_TWIN), err);
	if (r)
		return r;
	r = lane_init(mailbox_lane(&w->mailbox, LANE_MIDWIFE), err);
	if (r)
		lane_retire(mailbox_lane(&w->mailbox, LANE_TWIN));
	return r;
}

static int post_midwife(struct twin *w, struct err *err)
{
	struct batch b = lane_batch(&w->mailbox, LANE_MIDWIFE);

	BATCH_CALL(&b, SYS_clone, 0, 0, 0, 0, 0, mailbox_lane_remote(&w->mailbox, LANE_TWIN));
	BATCH_CALL(&b, SYS_exit, 0);
	return lane_post(mailbox_lane(&w->mailbox, LANE_MIDWIFE), &b, err);
}

struct birth {
	const struct twin_order *order;
	struct tracee *t;
	struct unforked *unforked; /* of the order, joined; owned */
	size_t n;
	struct twin *w;
	int r;
};

/* clone writes the midwife's pid straight into the argument of the wait4 that follows. */
static int post_host(const struct birth *birth, struct err *err)
{
	struct tracee *t = birth->t;
	struct batch b = tracee_batch(t);
	uint64_t wait_arg;

	unforked_advise(&b, birth->unforked, birth->n, MADV_DOFORK);
	wait_arg = batch_call_at(&b, b.n + 1) + offsetof(struct call, arg[0]);
	BATCH_CALL(&b, SYS_clone,
		   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID, 0,
		   wait_arg, 0, 0, mailbox_lane_remote(&t->mailbox, LANE_MIDWIFE));
	BATCH_CALL(&b, SYS_wait4, NO_PID, 0, __WALL, 0);
	unforked_advise(&b, birth->unforked, birth->n, MADV_DONTFORK);
	t->inject->has_midwife = true;
	return tracee_post(t, &b, err);
}

void twin_make_expendable(const struct twin *w)
{
	_cleanup_close_ int dir = -1, fd = -1;

	if (proc_open(-1, w->pid, 0, &dir, NULL) == 0 &&
	    proc_open_file(dir, "oom_score_adj", O_WRONLY, &fd, NULL) == 0 &&
	    write(fd, "1000", 4) < 0)
		log_debug("the twin %d is not expendable: %s", w->pid, strerror(errno));
}

static int take_birth(const struct birth *b, struct err *err)
{
	struct twin *w = b->w;
	struct batch host = tracee_batch(b->t), midwife = lane_batch(&w->mailbox, LANE_MIDWIFE);
	int64_t pid = batch_ret(&host, (unsigned)b->n);

	if (pid < 0)
		return err_sys(err, (int)pid, "cannot fork");
	if (batch_ret(&host, (unsigned)b->n + 1) != pid)
		return err_set(err, -ECHILD, "its midwife was not reaped");
	pid = batch_ret(&midwife, 0);
	if (pid < 0)
		return err_sys(err, (int)pid, "cannot fork");
	w->pid = (pid_t)pid;
	w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	if (w->pidfd < 0)
		return err_sys(err, -errno, "cannot open a pidfd of it");
	return 0;
}

/* Nothing of the application may be held or reached: no descriptor, no terminal. */
static int post_settling(struct twin *w, struct err *err)
{
	struct batch b = twin_batch(w);

	BATCH_CALL(&b, SYS_setsid);
	BATCH_CALL(&b, SYS_close_range, 0, ~0U, 0);
	BATCH_CALL(&b, SYS_prctl, PR_SET_NAME, batch_in_str(&b, "cpx-twin"));
	return twin_post(w, &b, err);
}

/* ---- many at a time ---- */

static int conceive(struct birth *b, struct err *err)
{
	int r = check_adopters(b->t, err);

	if (r == 0)
		r = seccomp_may_have_twin(b->t->inject->host, err);
	if (r == 0)
		r = unforked_join(b->t, b->order, &b->unforked, &b->n, err);
	if (r)
		return r;
	b->w = calloc(1, sizeof(*b->w));
	if (!b->w)
		return err_nomem(err);
	b->w->pidfd = -1;
	r = share_lanes(b->t, b->w, err);
	if (r == 0)
		r = post_midwife(b->w, err);
	return r ? r : post_host(b, err);
}

/* A twin without all memory is none. */
static int check_marks(const struct birth *b, struct err *err)
{
	struct batch host = tracee_batch(b->t);
	int r = unforked_check(&host, 0, b->n, err);

	return r ? r : unforked_check(&host, (unsigned)b->n + 2, b->n, err);
}

static int bear(struct birth *b, struct err *err)
{
	int r = inject_wait(b->t, err);

	if (r)
		return r;
	b->t->inject->has_midwife = false;
	r = take_birth(b, err);
	lane_retire(mailbox_lane(&b->w->mailbox, LANE_MIDWIFE));
	if (r == 0)
		r = check_marks(b, err);
	return r ? r : post_settling(b->w, err);
}

static int settle(struct birth *b, struct err *err)
{
	struct batch batch = twin_batch(b->w);
	int r = twin_wait(b->w, err);

	for (unsigned i = 0; r == 0 && i < 2; i++)
		if (batch_ret(&batch, i) < 0)
			r = err_sys(err, (int)batch_ret(&batch, i), "cannot be made independent");
	return r;
}

typedef int birth_fn(struct birth *b, struct err *err);

/* Every one that was begun gets as far as it can, whatever happens to the others. */
static int run_births(struct birth *b, size_t n, struct err *err)
{
	static birth_fn *const phases[] = {conceive, bear, settle};
	struct err e = ERR_INIT;
	int first = 0;

	for (size_t p = 0; p < ARRAY_SIZE(phases); p++) {
		for (size_t i = 0; i < n; i++) {
			if (b[i].r)
				continue;
			b[i].r = phases[p](&b[i], &e);
			if (!b[i].r || first)
				continue;
			first = b[i].r;
			err_set(err, first, "task %d (%s): twin: %s", b[i].t->pid, b[i].t->comm,
				e.msg);
		}
	}
	return first;
}

int twins_make(const struct twin_order *o, size_t n, struct twin **ret_twins, struct err *err)
{
	_cleanup_free_ struct birth *b = calloc(n + 1, sizeof(*b));
	int r;

	if (!b)
		return err_nomem(err);
	for (size_t i = 0; i < n; i++)
		b[i] = (struct birth){.order = &o[i], .t = o[i].t};
	r = run_births(b, n, err);
	for (size_t i = 0; i < n; i++) {
		if (r)
			twin_free(b[i].w);
		else
			ret_twins[i] = b[i].w;
		free(b[i].unforked);
	}
	return r;
}

int twin_make(struct tracee *t, struct twin **ret_twin, struct err *err)
{
	return twins_make(&(struct twin_order){.t = t}, 1, ret_twin, err);
}

struct batch twin_batch(struct twin *w)
{
	return lane_batch(&w->mailbox, LANE_TWIN);
}

int twin_post(struct twin *w, const struct batch *b, struct err *err)
{
	return lane_post(mailbox_lane(&w->mailbox, LANE_TWIN), b, err);
}

int twin_wait(struct twin *w, struct err *err)
{
	return lane_wait(mailbox_lane(&w->mailbox, LANE_TWIN), w->pidfd, 0, err);
}

int twin_run(struct twin *w, const struct batch *b, struct err *err)
{
	int r = twin_post(w, b, err);

	return r ? r : twin_wait(w, err);
}

/* As it has a session of its own it may have an autogroup of its own too, and then nice values count within that only
 * (sched(7)). */
static void nice_autogroup(const struct twin *w)
{
	_cleanup_close_ int dir = -1, fd = -1;
	char text[12];
	int n = snprintf(text, sizeof(text), "%d", BACKGROUND_NICE);

	if (proc_open(-1, w->pid, 0, &dir, NULL) == 0 &&
	    proc_open_file(dir, "autogroup", O_WRONLY, &fd, NULL) == 0 && write(fd, text, (size_t)n) < 0)
		log_debug("the twin %d keeps the priority of its session: %s", w->pid, strerror(errno));
}

void twin_yield(struct twin *w)
{
	background_thread(w->pid);
	if (w->helper > 0)
		background_thread(w->helper);
	nice_autogroup(w);
}

#define CLONE_AS_THREAD                                                                            \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

int twin_helper_start(struct twin *w, struct err *err)
{
	struct batch b = twin_batch(w);
	int r = w->helper ? 0 : lane_init(mailbox_lane(&w->mailbox, LANE_HELPER), err);

	if (r || w->helper)
		return r;
	BATCH_CALL(&b, SYS_clone, CLONE_AS_THREAD, 0, 0, 0, 0,
		   mailbox_lane_remote(&w->mailbox, LANE_HELPER));
	r = twin_run(w, &b, err);
	if (r == 0 && batch_ret(&b, 0) < 0)
		r = err_sys(err, (int)batch_ret(&b, 0), "clone in the twin");
	if (r)
		lane_retire(mailbox_lane(&w->mailbox, LANE_HELPER));
	else
		w->helper = (pid_t)batch_ret(&b, 0);
	return r;
}

struct batch twin_helper_batch(struct twin *w)
{
	return lane_batch(&w->mailbox, LANE_HELPER);
}

int twin_helper_post(struct twin *w, const struct batch *b, struct err *err)
{
	return lane_post(mailbox_lane(&w->mailbox, LANE_HELPER), b, err);
}

int twin_helper_wait(struct twin *w, struct err *err)
{
	return lane_wait(mailbox_lane(&w->mailbox, LANE_HELPER), w->pidfd, 0, err);
}

/* Told as by our death, in case it may not be killed (other credentials). */
static void dismiss(struct lane *l)
{
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&l->park[i].word, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &l->park[i].word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

static void end_lane(struct twin *w, size_t i)
{
	struct lane *l = mailbox_lane(&w->mailbox, i);

	dismiss(l);
	lane_retire(l);
}

void twin_free(struct twin *w)
{
	if (!w)
		return;
	if (w->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0);
	else if (w->pid > 0)
		kill(w->pid, SIGKILL);
	if (w->mailbox.local) {
		end_lane(w, LANE_TWIN);
		end_lane(w, LANE_HELPER); /* or the midwife's, of a twin that was not born */
		mailbox_release(&w->mailbox);
	}
	if (w->pidfd >= 0)
		close(w->pidfd);
	free(w);
}
