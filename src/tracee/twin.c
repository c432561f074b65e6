/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The twin of an address space: a fork that the application never sees. The host thread clones a
 * midwife that shares its memory, the midwife forks the twin and ends, the host reaps it, all in
 * one batch: so the twin is an orphan before anybody can look, adopted by init, and no SIGCHLD is sent
 * (exit_signal 0). Where a task of the tree would be the one to adopt it there is no twin.
 */
#include "tracee/tracee_priv.h"

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

enum { LANE_HOST, LANE_MIDWIFE, LANE_TWIN };

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

/* Our own view of the lanes, which outlives the injection. */
static int map_lanes(struct tracee *t, struct twin *w, struct err *err)
{
	void *p = mmap(NULL, t->mailbox.size, PROT_READ | PROT_WRITE, MAP_SHARED, t->inject->memfd,
		       0);
	int r;

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map the twin's mailbox");
	w->mailbox = t->mailbox;
	w->mailbox.local = p;
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

/* clone writes the midwife's pid straight into the argument of the wait4 that follows. */
static int run_midwife(struct tracee *t, struct twin *w, struct err *err)
{
	struct batch b = tracee_batch(t);
	uint64_t wait_arg = mailbox_lane_remote(&t->mailbox, LANE_HOST) +
			    offsetof(struct lane, call[1].arg[0]);
	unsigned c, wait;
	int r;

	c = BATCH_CALL(&b, SYS_clone,
		       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID, 0,
		       wait_arg, 0, 0, mailbox_lane_remote(&t->mailbox, LANE_MIDWIFE));
	wait = BATCH_CALL(&b, SYS_wait4, NO_PID, 0, __WALL, 0);
	t->inject->has_midwife = true;
	r = tracee_run(t, &b, err);
	if (r)
		return r;
	t->inject->has_midwife = false;
	r = (int)MIN(batch_ret(&b, c), 0);
	if (r)
		return err_sys(err, r, "cannot fork");
	if (batch_ret(&b, wait) != batch_ret(&b, c))
		return err_set(err, -ECHILD, "its midwife was not reaped");
	b = lane_batch(&w->mailbox, LANE_MIDWIFE);
	r = (int)MIN(batch_ret(&b, 0), 0);
	if (r)
		return err_sys(err, r, "cannot fork");
	w->pid = (pid_t)batch_ret(&b, 0);
	return 0;
}

/* When memory runs short the twin must go before its original: losing it fails the dump, no more. */
static void make_expendable(const struct twin *w)
{
	_cleanup_close_ int dir = -1, fd = -1;

	if (proc_open(-1, w->pid, 0, &dir, NULL) == 0 &&
	    proc_open_file(dir, "oom_score_adj", O_WRONLY, &fd, NULL) == 0 &&
	    write(fd, "1000", 4) < 0)
		log_debug("the twin %d is not expendable: %s", w->pid, strerror(errno));
}

/* Nothing of the application may be held or reached: no descriptor, no terminal. */
static int settle(struct twin *w, struct err *err)
{
	struct batch b = twin_batch(w);
	unsigned closed, session;
	int r;

	w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	if (w->pidfd < 0)
		return err_sys(err, -errno, "cannot open a pidfd of the twin");
	make_expendable(w);
	session = BATCH_CALL(&b, SYS_setsid);
	closed = BATCH_CALL(&b, SYS_close_range, 0, ~0U, 0);
	BATCH_CALL(&b, SYS_prctl, PR_SET_NAME, batch_in_str(&b, "cpx-twin"));
	r = twin_run(w, &b, err);
	if (r == 0 && batch_ret(&b, session) < 0)
		r = err_sys(err, (int)batch_ret(&b, session), "setsid in the twin");
	if (r == 0 && batch_ret(&b, closed) < 0)
		r = err_sys(err, (int)batch_ret(&b, closed), "close_range in the twin");
	return r;
}

static int make(struct tracee *t, struct twin *w, struct err *err)
{
	int r = map_lanes(t, w, err);

	if (r)
		return r;
	r = post_midwife(w, err);
	if (r == 0)
		r = run_midwife(t, w, err);
	lane_retire(mailbox_lane(&w->mailbox, LANE_MIDWIFE));
	return r ? r : settle(w, err);
}

int twin_make(struct tracee *t, struct twin **ret_twin, struct err *err)
{
	struct twin *w;
	int r = check_adopters(t, err);

	if (r)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_nomem(err);
	w->pidfd = -1;
	r = make(t, w, err);
	if (r) {
		err_context(err, "task %d (%s): twin", t->pid, t->comm);
		twin_free(w);
		return r;
	}
	*ret_twin = w;
	return 0;
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
	return lane_wait(mailbox_lane(&w->mailbox, LANE_TWIN), w->pidfd, err);
}

int twin_run(struct twin *w, const struct batch *b, struct err *err)
{
	int r = twin_post(w, b, err);

	return r ? r : twin_wait(w, err);
}

/* Told as by our death, in case it may not be killed (other credentials). */
static void dismiss(struct lane *l)
{
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&l->park[i].word, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &l->park[i].word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
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
		struct lane *l = mailbox_lane(&w->mailbox, LANE_TWIN);

		dismiss(l);
		lane_retire(l);
		munmap(w->mailbox.local, w->mailbox.size);
	}
	if (w->pidfd >= 0)
		close(w->pidfd);
	free(w);
}
