/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tracees: tasks and threads seized for a dump, in a frozen tree, and system calls run in them.
 *
 * Promise: whatever happens to cpx (even SIGKILL at any instruction), a tracee goes on as if it had
 * been stopped and continued: same registers, mask, mappings, descriptors, children.
 */
#ifndef CPX_TRACEE_TRACEE_H
#define CPX_TRACEE_TRACEE_H

#include "base/clock.h"
#include "base/err.h"
#include "arch/arch.h"
#include "tracee/batch.h"
#include "tracee/mailbox.h"

#include <linux/filter.h>
#include <sys/types.h>

struct tracee_thread {
	pid_t tid;
	struct arch_regs regs;	    /* as at the freeze, rseq critical sections already aborted */
	struct arch_xstate *xstate; /* owned */
	uint64_t sigmask;
	bool is_exited; /* a leader that has exited while other threads live: nothing but the tid */
	bool in_group_stop;
	int stop_signal; /* of the group stop, 0 if none */
	/* When the thread was asleep in a system call with a relative timeout: how long already.
	 * 0 when unknown or not asleep. */
	uint64_t asleep_ns;
	/* Mode of seccomp(2), 0: none, -1: not read yet. Whoever reads its status while it is frozen
	 * tells tracee_seccomp(), and saves remote calls from reading it again. */
	int seccomp;
	struct seccomp_filter *filter; /* its newest one; owned by the tree */

	/* Private to src/tracee. */
	enum {
		THREAD_SEIZED,	/* to be waited for */
		THREAD_STOPPED, /* where the freeze found it */
		THREAD_AWAY,	/* stopped, but on its frame: between remote calls */
		THREAD_IN_LOOP, /* running in the mailbox */
		THREAD_GONE,
	} where;
	bool stop_again;	   /* a SIGSTOP was swallowed meanwhile */
	bool is_checked;	   /* it may run remote calls */
	uint64_t frame_sp;	   /* of the frame that restores it, 0: none written */
	uint64_t link_sp;	   /* of the frame before it, 0: none */
	uint64_t frame_top;	   /* where that ends */
	struct saved_bytes *saved; /* what the frame was written over, if that may matter */
	int sleep_nr;	       /* call with a relative timeout it slept in before the stop, or -1 */
	int restarted_nr;      /* in restart_syscall(2): the call that it restarts */
	uint64_t asleep_since; /* CLOCK_MONOTONIC */
};

struct tracee {
	pid_t pid;
	pid_t ppid; /* real parent */
	int pidfd;
	char comm[32];
	bool is_zombie;		      /* nothing else is valid then */
	struct tracee_thread *thread; /* leader first */
	size_t nthreads;
	struct tracee *mm_owner; /* the tracee (itself or an earlier one) that has the same mm */
	/* Signals that were pending for it or its speaker when that had been asked for all else; ~0: not known. */
	uint64_t pending_last;
	struct mailbox mailbox;	 /* only in the mm_owner, while injected. lane 0: host thread,
				  * lane 1: twin's midwife, lane 2: twin */
	/* Private to src/tracee. */
	struct tree *tree;
	struct tracee *parent; /* in the tree, NULL for the root */
	struct inject *inject;
	struct proc_vmas *maps; /* if they were made known, and not used yet; owned */
	int subreaper; /* -1 unknown */
	bool threads_complete;
};

struct tree {
	struct tracee **task; /* parents before children; root first */
	size_t n, max;
	uint64_t frozen_at_ns; /* CLOCK_MONOTONIC of the first stop */
	uint64_t thawed_at_ns;
	struct gadget_cache *gadgets; /* private to src/tracee */
	struct sleep_clocks *clocks;  /* likewise */
	struct filter_pool *filters;  /* likewise */
};

struct freeze_options {
	bool no_children;
	/* For a thread that does not stop (uninterruptible, vfork); 0: 10000. */
	unsigned timeout_ms;
	/* Tasks that are stopped first, and how long the others go on then: to be done with what these
	 * have asked of them. Numbers that are not (any more) in the tree do no harm. */
	const pid_t *first;
	size_t nfirst;
	unsigned first_ms;
};

/* Seizes and stops every thread of root and all descendants until a whole pass finds nothing
 * new, and reads registers, xstate, masks. On failure everything runs again. Threads inside a
 * vfork are waited out. Refuses (err) what is traced by somebody else, naming the tracer, and
 * kernel threads, and cpx itself or its ancestors' freeze hazards (freezing oneself). */
int tree_freeze(struct tree *tree, pid_t root, const struct freeze_options *o, struct err *err);

/* Resumes everything, undoing whatever is injected. Stopped tasks stay stopped. With
 * `stop`, every task is left in a group stop (SIGSTOP) instead; with `kill`, killed. Idempotent;
 * runs on every exit path. */
enum thaw_mode { THAW_RUN, THAW_STOP, THAW_KILL };
void tree_thaw(struct tree *tree, enum thaw_mode mode);
void tree_release(struct tree *tree);

struct tracee *tree_find(const struct tree *tree, pid_t pid);

/* A filter of seccomp(2). Those of a thread are a chain; what is equal from the oldest on is the
 * same struct in the whole tree. */
struct seccomp_filter {
	uint32_t id; /* 1, 2 ..., ascending along the chain */
	struct seccomp_filter *parent; /* installed before it */
	bool is_logged;		       /* SECCOMP_FILTER_FLAG_LOG */
	bool is_recorded;	       /* free for whoever makes records */
	uint8_t verdict[512];	       /* private to src/tracee */
	size_t n;
	struct sock_filter insn[];
};

/*
 * Reads the filters of a stopped thread of that mode and suspends them while it is traced. Remote calls
 * may be run in it only if not even an unsuspended filter would kill it for them, since we may die
 * at any moment: -EOPNOTSUPP, with words, when it would for those that every dump makes, or cannot be
 * carried at all; -EACCES when we may not read it.
 */
int tracee_seccomp(struct tracee *t, struct tracee_thread *th, int mode, struct err *err);
/* -EBUSY, with words, while system calls of th from unknown code would be signals
 * (PR_SET_SYSCALL_USER_DISPATCH): another time they may not be. */
int tracee_dispatches(const struct tracee_thread *th, struct err *err);
/* Whether th may be made to run these calls: 0 or -EOPNOTSUPP. */
int tracee_may_host(const struct tracee_thread *th, struct err *err); /* a mailbox */
int tracee_may_run(const struct tracee_thread *th, const struct batch *b, struct err *err);
bool tracee_may_call(const struct tracee_thread *th, uint64_t nr);

struct proc_vmas;
/* Hands over (emptied here) the mappings of a frozen t, and saves tracee_inject() from reading them. */
void tracee_know_maps(struct tracee *t, struct proc_vmas *maps);

/* Maps the mailbox into a tracee (its mm_owner must be itself) and brings its host thread into
 * the loop. After it tracee_run() works. Needs a live, non-zombie task. */
int tracee_inject(struct tracee *t, struct err *err);
int tracee_inject_all(struct tree *tree, struct err *err); /* all mm owners, in parallel */

/* The batch of the host thread, emptied; and running it there. */
struct batch tracee_batch(struct tracee *t);
int tracee_run(struct tracee *t, const struct batch *b, struct err *err);
/* The two halves of tracee_run(), so that many tasks work at the same time. */
int tracee_post(struct tracee *t, const struct batch *b, struct err *err);
int tracee_wait(struct tracee *t, struct err *err);

/* The same for any thread i of any tracee: runs the calls in that very thread (host threads run
 * them in the loop, others are stepped from call to call on the task's own instructions). The
 * batch lives in the mailbox of t->mm_owner, which must be injected. */
int tracee_thread_run(struct tracee *t, size_t i, const struct batch *b, struct err *err);

/* The same for many threads of t, none of them a host, at the same time. Their batches are
 * batch_part()s of tracee_batch(t). */
struct thread_batch {
	size_t thread;
	struct batch batch;
};
int tracee_threads_run(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err);

/* Between batches: the host thread into a ptrace stop, for requests that need one
 * (PTRACE_PEEKSIGINFO), and back to waiting for batches. */
int tracee_pause(struct tracee *t, struct err *err);
int tracee_resume(struct tracee *t, struct err *err);

/* Takes the mailbox out again, the host thread is back where it was, stopped. */
int tracee_eject(struct tracee *t, struct err *err);

/* A userfaultfd of the memory of a frozen, injected t, for write tracking; the task itself never has
 * the descriptor, and closing ours (our death does) ends all that was registered. -EOPNOTSUPP,
 * -EPERM ...: there can be none. */
int tracee_watch(struct tracee *t, int *ret_fd, struct err *err);

/*
 * The twin: a copy-on-write copy of the address space that sits in the loop on lane 2, with no
 * descriptors of the application, in a session of its own, invisible to it (made by a midwife
 * child that is reaped before this returns, so that the twin is nobody's child but init's).
 * Twins outlive tree_thaw(); they end by themselves when cpx dies.
 */
struct twin {
	pid_t pid;
	int pidfd;
	struct mailbox mailbox; /* lane 2 is the twin's; owned here */
	pid_t helper;		/* a second thread, on lane 1; 0: none */
};

/* The tree must be frozen, t injected. -EOPNOTSUPP when a twin would be noticed (a subreaper or
 * a PID namespace's init is in the tree) and other errors (EAGAIN, ENOMEM) when the kernel cannot:
 * the caller falls back to writing while frozen. */
int twin_make(struct tracee *t, struct twin **ret_twin, struct err *err);
struct unforked {
	uint64_t start, end;
};
struct twin_order {
	struct tracee *t;
	/* Memory that is MADV_DONTFORK and that the twin shall have: whole mappings, ascending; borrowed. Not a mapping
	 * that is not marked so: it would be afterwards. */
	const struct unforked *unforked;
	size_t n;
};
/* All at once, which is quicker: all or none. */
int twins_make(const struct twin_order *o, size_t n, struct twin **ret_twins, struct err *err);
struct batch twin_batch(struct twin *w);
int twin_post(struct twin *w, const struct batch *b, struct err *err);
int twin_wait(struct twin *w, struct err *err);
int twin_run(struct twin *w, const struct batch *b, struct err *err);
/* When memory runs short the twin goes before its original: losing it fails the dump, no more. For when the tree runs
 * on. */
void twin_make_expendable(const struct twin *w);
/* The twin, and threads that it starts from now on, step behind others: for when the tree runs on. */
void twin_yield(struct twin *w);
/* Starts a second thread in the twin, so that two batches run at once. Harmless when there is one.
 * Errors (EAGAIN ...) mean to do without. */
int twin_helper_start(struct twin *w, struct err *err);
struct batch twin_helper_batch(struct twin *w);
int twin_helper_post(struct twin *w, const struct batch *b, struct err *err);
int twin_helper_wait(struct twin *w, struct err *err);
void twin_free(struct twin *w); /* kills and forgets; NULL is fine */

#endif
