/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of src/tracee share with each other. */
#ifndef CPX_TRACEE_PRIV_H
#define CPX_TRACEE_PRIV_H

#include "proc/proc.h"
#include "tracee/tracee.h"

#include <signal.h>
#include <time.h>

/* ---- freeze.c ---- */

struct freezer {
	struct tree *tree;
	const struct freeze_options *o;
	uint64_t deadline; /* monotonic ns */
	uint64_t pid_ns;
	struct tree first; /* stopped first, and not yet found in the tree */
};

/* -ESRCH when there is no such task (any more). parent: NULL if it may be anybody's child. */
int freeze_add_task(struct freezer *f, pid_t pid, struct tracee *parent, struct err *err);
/* All threads of all tasks known so far stand, and no task has others. */
int freeze_threads(struct freezer *f, struct err *err);

/* ---- first.c ---- */

int freeze_first(struct freezer *f, struct err *err);
/* It was found in the tree. */
void freeze_take_first(struct freezer *f, struct tracee *t);
/* What has turned out not to be in the tree runs again. */
void freeze_release_first(struct freezer *f);

/* ---- seize.c: attaching ---- */

/* Must be on while a second thread of a task is seized: see there. */
struct seize_guard {
	timer_t timer;
	struct sigaction action;
	sigset_t mask;
};
int seize_guard(struct seize_guard *g, struct err *err);
void seize_unguard(const struct seize_guard *g);

/* Seizes and interrupts; th->where tells whether a stop is to be waited for. A thread that has gone
 * or is an exited leader is no error. */
int seize_thread(const struct tracee *t, struct tracee_thread *th, struct err *err);
/* Why a task (dir: its /proc directory) may not be looked at: `code`, with words. */
int seize_explain(int dir, int code, struct err *err);

/* ---- stops.c: single stops ---- */

enum stop {
	STOP_NONE,    /* not yet (only when not blocking) */
	STOP_TRAP,    /* PTRACE_INTERRUPT, or news about a group stop */
	STOP_SYSCALL, /* entry or exit of a system call */
	STOP_GONE,
};

/* -errno of ptrace(2). how: PTRACE_CONT, PTRACE_SYSCALL or PTRACE_DETACH. */
int stop_interrupt(pid_t tid);
int stop_resume(pid_t tid, int how, int sig);

/*
 * Sleeping until a stop may have come, which SIGCHLD tells: blocked between the two calls, so that
 * none is missed between a look and the sleep. False when `ms` went by without one.
 *
 * Never sched_yield(2) in a loop: Linux 6.6 and later then loses track of what is fair, and on a
 * busy machine others, the target among them, do not run for seconds (kernel/sched/fair.c,
 * yield_task_fair; repaired by "sched/fair: Fix zero_vruntime tracking fix").
 */
void stops_watch(sigset_t *saved);
void stops_unwatch(const sigset_t *saved);
bool stops_sleep(unsigned ms);

/* The next stop of a thread on its way to its first one: signals are delivered as if we were not
 * there. */
enum stop stop_poll(struct tracee_thread *th);

/* Waits for a stop of a thread that runs remote calls with all signals blocked. SIGSTOP, which
 * cannot be blocked, is put off until the thaw. */
enum stop stop_wait_steered(struct tracee_thread *th, int resume);
/* The same without waiting, but for a look at /proc: for seldom use. */
enum stop stop_poll_steered(struct tracee_thread *th, int resume);

/* Of a thread that is not waited for, so that it remains one: a leader that was killed is not
 * reported before its other threads are reaped (kernel/exit.c, delay_group_leader). */
bool stop_is_zombie(pid_t tid);

/* A thread that has the task's memory: an exited leader has none. */
pid_t tracee_live_tid(const struct tracee *t);

/* ---- steer.c: one thread on its frame ---- */

/* From where the freeze found it to `call` on its frame; nothing runs yet. */
int steer_begin(struct tracee *t, struct tracee_thread *th, const struct arch_regs *regs,
		struct err *err);
/* A call in three parts, so that those of many threads overlap. The registers are set already. */
int steer_enter(struct tracee *t, struct tracee_thread *th, struct err *err);
int steer_leave(struct tracee *t, struct tracee_thread *th, struct err *err);
/* In place of steer_leave(): on to a trap right after the call, that steer_trapped() waits for. */
int steer_leave_to_trap(struct tracee *t, struct tracee_thread *th, struct err *err);
int steer_result(struct tracee *t, struct tracee_thread *th, int64_t *ret, struct err *err);
/* All of it. sp: where its frame is. */
int steer_call(struct tracee *t, struct tracee_thread *th, uint64_t sp, uint64_t nr,
	       const uint64_t arg[6], int64_t *ret, struct err *err);
/* A trap, from within the loop or a call, in two parts; then the thread is on its frame. */
void steer_interrupt(struct tracee_thread *th);
int steer_trapped(struct tracee *t, struct tracee_thread *th, struct err *err);
/* Waits for the batch posted to the lane that the thread serves. */
int steer_wait_lane(struct tracee *t, struct tracee_thread *th, struct lane *l, struct err *err);
/* Back to where the freeze found it, from a trap; and from anywhere. */
int steer_restore(struct tracee *t, struct tracee_thread *th, struct err *err);
int steer_end(struct tracee *t, struct tracee_thread *th, struct err *err);
int steer_gone(struct tracee *t, struct err *err);

/* ---- site.c: places in the task ---- */

struct site {
	uint64_t top;	/* the frame ends here */
	uint64_t room;	/* bytes below top that may be overwritten */
	bool is_shared; /* one thread at a time */
	bool must_save; /* it may be live data: put it back afterwards */
};
int site_find(struct tracee *t, const struct tracee_thread *th, size_t need, bool is_host,
	      struct site *ret, struct err *err);
/* An address range nobody maps and the kernel does not choose soon. */
int site_hole(const struct proc_vmas *maps, uint64_t size, uint64_t *ret, struct err *err);

/* ---- gadgets.c ---- */

int gadgets_find(struct tracee *t, struct arch_gadgets *ret, struct err *err);
void gadget_cache_free(struct gadget_cache *c);

/* ---- inject.c ---- */

struct inject {
	struct proc_vmas maps; /* as frozen */
	struct arch_gadgets gadgets;
	int mem_fd; /* /proc/PID/mem */
	int memfd;  /* of the lanes, ours */
	struct tracee_thread *host;
	uint64_t map, map_size; /* the mailbox: code page, then lanes */
	bool is_mapped;		/* at least the private part */
	size_t npeers;
	bool has_midwife; /* a task that shares the mm may live */
	int r;		  /* how its phases went */
	uint64_t slot;	  /* unpopulated stack pages for frames, 0: not looked for yet */
	size_t nslot_pages;
};

/* Allocates t->inject and reads what all remote calls of this task need. */
int inject_prepare(struct tracee *t, struct err *err);
void inject_release(struct tracee *t);
/* Writes the frame that restores th and sets th->frame_sp. */
int inject_frame(struct tracee *t, struct tracee_thread *th, struct err *err);
/* Only if th has a stack of its own: else -EBUSY. Before it comes a frame, at th->link_sp, that makes the thread run a call of
 * its own instructions first, whose end is followed by the other. */
struct first_call {
	uint64_t nr, arg[6];
};
int inject_own_frame(struct tracee *t, struct tracee_thread *th, const struct first_call *first,
		     struct err *err);
/* Puts back what a frame was written over, if that has to be. th is where it was frozen. */
void inject_unframe(struct tracee *t, struct tracee_thread *th);
/* tracee_eject() for all, in parallel and whatever fails, but for our own side of it, which is closed by the other. */
void inject_eject_all(struct tree *tree);
void inject_close_all(struct tree *tree);
/* See tracee_know_maps(). */
void inject_forget_maps(struct tracee *t);
bool inject_is_live(const struct tracee *t); /* its host is in the loop */
/* Waits for the batch posted to the host's lane. */
int inject_wait(struct tracee *t, struct err *err);
/* Whether the task asked to adopt orphans; cached. */
int inject_is_subreaper(struct tracee *t, bool *ret, struct err *err);

/* ---- seccomp.c ---- */

/* A twin inherits the filters of th, and nobody suspends them there. */
int seccomp_may_have_twin(const struct tracee_thread *th, struct err *err);
/* madvise(2) with this advice, also when nobody suspends its filters any more. */
int seccomp_may_advise(const struct tracee_thread *th, int advice, struct err *err);

/* ---- unforked.c ---- */

/* As few ranges as may be: *ret is allocated. -E2BIG: still too many for a batch. */
int unforked_join(const struct tracee *t, const struct twin_order *o, struct unforked **ret,
		  size_t *ret_n, struct err *err);
/* Adds n calls; unforked_check() judges them, from the first one's index on. */
void unforked_advise(struct batch *b, const struct unforked *run, size_t n, int advice);
int unforked_check(const struct batch *b, unsigned first, size_t n, struct err *err);
void filter_pool_free(struct filter_pool *p);

/* ---- peers.c ---- */

#define MAX_PEERS 96 /* lanes for them in a mailbox */

/* ---- asleep.c ---- */

/* Before a thread is stopped: what it sleeps in and since when. False: it is a helper of the kernel's
 * (io_uring), which is not to be stopped. */
bool asleep_before(struct tracee *t, struct tracee_thread *th);
/* Stopped, registers read: fills asleep_ns, and makes a call start again that the stop alone ended
 * with EINTR. */
int asleep_after(struct tracee *t, struct tracee_thread *th, struct err *err);
void sleep_clocks_free(struct sleep_clocks *c);

#endif
