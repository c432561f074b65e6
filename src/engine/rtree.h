/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree under construction. Everything of it sits in the mailbox loop (src/tracee/mailbox.h)
 * until the switch and is driven by batches from one process, the coordinator: cpx itself, or the
 * init of a fresh PID namespace.
 *
 * Order of the work, all tasks finishing one step before the next starts (restore.c has the table):
 *   grow      tasks are cloned from their restored parents, whose memory stands by then (grow.c)
 *   layout    each address space: mappings, then pages (layout.c, pagein.c)
 *   groups    process groups and sessions (family.c)
 *   give      attributes and descriptors (give.c)
 *   switch    registers, masks; the mailbox goes (switch.c)
 */
#ifndef CPX_ENGINE_RTREE_H
#define CPX_ENGINE_RTREE_H

#include "base/err.h"
#include "engine/lazy.h"
#include "image/image.h"
#include "mem/mem.h"
#include "res/res.h"
#include "tracee/mailbox.h"

#include <stdbool.h>
#include <sys/types.h>

struct rthread {
	const Cpx__Thread *msg; /* NULL in a stand-in */
	pid_t tid;
	size_t lane;
	bool is_seized;
};

/* A task of the image, or a stand-in: a leader of a session or group that has ended in the image
 * but whose number others still carry; it lives only while they join. */
struct rtask {
	const Cpx__Task *msg; /* NULL: stand-in */
	struct rtask *parent; /* NULL: the root, child of the coordinator */
	pid_t pid;
	int pidfd;
	struct rthread *thread;
	size_t nthreads;
	const Cpx__Mm *mm;
	struct rtask *mm_owner; /* who built the mm: itself, or the ancestor it is shared with */
	bool owns_fds;		/* first task with this descriptor table */
	bool is_alive;
	bool is_switched;
	pid_t birth_sid; /* session at birth, by the numbers of the image; 0: the external one */
	pid_t sid, pgid; /* now, the same way */
	struct page_ranges pages; /* populated private pages of the mm, ascending (owner only) */
	struct page_ranges kept;  /* what layout_apply() kept of its parent's mappings */
	struct page_ranges hidden; /* mappings that its children were not cloned with */
	struct special *special;  /* vvar and vdso mappings, where they are now */
	size_t nspecials;
	int mem_fd, uffd;
	int uffd_there; /* the task's own descriptor of uffd; -1: it has none */
};

struct special {
	uint64_t start, len;
	bool is_vdso;
};

struct stock;

struct rtree {
	struct restore_ctx ctx;
	const struct image *image;
	struct image *stream; /* the same image when its source is sequential, else NULL */
	struct rtask **task; /* parents before children */
	size_t n, max;
	struct mailbox box;
	uint64_t code; /* address of the loop's code, the page below box.remote */
	uint64_t hole, hole_size; /* all of ours: scratch, code, mailbox, staged objects */
	uint64_t scratch;	  /* where the vdso waits while the rest is unmapped */
	uint64_t stage;
	struct special *special; /* vvar and vdso of the coordinator */
	size_t nspecials;
	size_t next_lane;
	long trace_options; /* of PTRACE_SEIZE */
	pid_t external_sid, external_pgid;
	unsigned workers;
	const struct stock *stock; /* engine/stock.h: what the root inherits from the coordinator; NULL: nothing */
	struct chunk_ref pending; /* sequential source: the next chunk, already read */
	uint8_t *pending_data;
	bool has_pending;
	void (*progress)(void *data, uint64_t done);
	void *progress_data;
	uint64_t filled;
	struct lazy *lazy; /* NULL: all memory is filled before the tree runs */
};

struct batch rtask_batch(struct rtree *rt, const struct rtask *t);
int rtask_run(struct rtree *rt, struct rtask *t, const struct batch *b, struct err *err);
struct lane *rtask_lane(struct rtree *rt, const struct rtask *t);
/* "task 42 (sh)" put before err's message; returns err->code. */
int rtask_context(const struct rtask *t, struct err *err);
/* Makes it exit, and waits until it is a zombie (or gone). */
int rtask_exit(struct rtree *rt, struct rtask *t, int code, struct err *err);
int rtask_wait_end(const struct rtask *t, struct err *err);
struct rtask *rtree_find(const struct rtree *rt, pid_t pid);

/* ---- remote.c: batches of many tasks at once ---- */

/* Calls of a task's first thread that must succeed. `what` completes the message "cannot <what>"; NULL: the
 * result does not matter. */
struct remote {
	struct rtree *rt;
	struct rtask *t;
	struct batch b;
	const char *what[LANE_CALLS];
};
typedef int remote_fn(struct remote *r, struct rtask *t, struct err *err);
/* `gather` adds the calls of each task; they run in all tasks at the same time (but what fills a batch runs at
 * once). `look` (may be NULL) sees the results in r->b. */
int remote_each(struct rtree *rt, struct rtask *const *task, size_t n, remote_fn *gather,
		remote_fn *look, struct err *err);
int remote_call(struct remote *r, const char *what, uint64_t nr, const uint64_t arg[6], struct err *err);
#define REMOTE_CALL(r, what, err, nr, ...) \
	remote_call((r), (what), (nr), (const uint64_t[6]){__VA_ARGS__}, (err))

/* The same for lists that may fill many batches: `add` adds calls from *cursor (0 at first) on and returns 1 when
 * there are more; `check` looks at the results of those that were added from `from` on. */
struct round_ops {
	int (*add)(struct rtree *rt, struct rtask *t, struct batch *b, size_t *cursor,
		   struct err *err);
	int (*check)(struct rtree *rt, struct rtask *t, const struct batch *b, size_t from,
		     struct err *err);
};
int rtask_rounds(struct rtree *rt, struct rtask *const *task, size_t n, const struct round_ops *ops,
		 struct err *err);

/* Kills and reaps all that was created. */
void rtree_abort(struct rtree *rt);
void rtree_release(struct rtree *rt);

/* space.c: the hole that is free in every address space of the image and in ours; maps the
 * mailbox and the loop's code there. */
int space_setup(struct rtree *rt, size_t lanes, struct err *err);
void space_release(struct rtree *rt);

/* grow.c */
int rtree_grow(struct rtree *rt, struct err *err);

/* The kernel gives a number back a moment after its last task, group and session are gone from sight
 * (kernel/exit.c, release_task: free_pids): whether a clone that was refused so is to be tried again, after a while. */
#define GROW_PATIENCE_MS 1000
bool grow_may_try_again(pid_t result, pid_t wanted, int *patience_ms);
/* A child of t with this number that shares nothing with the image. */
int rtree_stand_in(struct rtree *rt, struct rtask *t, pid_t pid, struct rtask **ret, struct err *err);

/* layout.c: gives tasks (just cloned; parent NULL: still with the coordinator's mappings) the mappings
 * of their mms. Private mappings that the parent has alike are kept, for their pages. */
int layout_apply(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err);
/* Where the coordinator's vvar and vdso are, which the root will have at first. */
struct proc_vmas;
int layout_note_specials(struct rtree *rt, const struct proc_vmas *own, struct err *err);
/* Protections, madvise(2), locks, names, and PR_SET_MM, when all children are cloned. */
int layout_finish(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err);

/* keep.c: chooses t->kept. old: the mappings that it was cloned with; NULL: those of the coordinator. */
int keep_mappings(const struct rtree *rt, struct rtask *t, const Cpx__Mm *old, struct err *err);
/* Chooses t->hidden, when its memory stands: what none of its children shares, and would only cost them. */
int keep_choose_hidden(const struct rtree *rt, struct rtask *t, struct err *err);
/* Is the page at addr in an anonymous mapping that was made for t (not kept from its parent)? Lowers
 * *end to where the answer changes within the mapping. */
bool keep_is_fresh(const struct rtask *t, uint64_t addr, uint64_t *end);

/* pagein.c */
int pagein_objects(struct rtree *rt, struct err *err);
/* The pages of tasks whose mappings stand and whose parents are complete; in the order of the image. */
int pagein_mms(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err);
/* The same without running anything in them: for the calling process itself, too, which has its uffd already. */
int pagein_fill(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err);
int pagein_end(struct rtree *rt, struct err *err);

/* family.c: process groups, stand-ins that end, zombies that end. */
int family_join_groups(struct rtree *rt, struct err *err);
int family_end_zombies(struct rtree *rt, struct err *err);

/* threads.c */
int threads_clone(struct rtree *rt, struct err *err);

/* give.c: attributes and descriptors of the tasks that `want` selects. */
typedef bool rtask_filter(const struct rtask *t, const void *arg);
int give_descriptors(struct rtree *rt, struct err *err);
int give_attributes(struct rtree *rt, rtask_filter *want, const void *arg, enum give_stage stage, struct err *err);
int give_outside(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err);
int give_settle(struct rtree *rt, struct err *err);
int give_rings(struct rtree *rt, struct err *err);

/* switch.c: into the registers of the image, stopped still. */
int switch_tasks(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err);
/* Lets go of what switch_tasks() has prepared. */
int switch_release(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err);
/* The same for a task that was stopped in the image, and is again when this returns. */
int switch_stop(struct rtree *rt, struct rtask *t, struct err *err);
/* Stops and continues a task in the loop, so that its parent can wait for that. */
int switch_continue(struct rtask *t, struct err *err);

#endif
