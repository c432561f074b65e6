/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the attribute files of src/res share with each other and with the stages of a dump. */
#ifndef CPX_RES_ATTR_H
#define CPX_RES_ATTR_H

#include "base/util.h"
#include "proc/proc.h"
#include "res/res.h"

/* ---- dump ---- */

/* The thread that answers for the task: the leader or, when that has exited, the first live one. */
struct tracee_thread *attr_speaker(const struct tracee *t);

void landlock_release(struct dump_ctx *c);
/* lsm.c: are the labels of a thread those of cpx, or none? */
bool lsm_is_like_us(int proc_fd, const Cpx__Thread *th);

/* The thread that a record is of. */
const struct tracee_thread *attr_thread(const struct tracee *t, const Cpx__Thread *th);

/* Opens /proc/TID of a thread (NULL: of the speaker), which has every file that /proc/PID has. */
int attr_open(const struct dump_ctx *c, const struct tracee *t, const struct tracee_thread *thread,
	      int *ret_dir, struct err *err);

/* Facts about this machine and cpx, found out once per dump. */
struct attr_host {
	long cpus;	/* configured */
	bool has_labels; /* of a security module: lsm.c */
	uint64_t slice; /* sched_attr.sched_runtime of cpx itself, a fair thread that never chose one; 0 before 6.12 */
};
uint64_t sched_own_slice(void);	  /* sched.c */
bool lsm_has_labels(int proc_fd); /* lsm.c */
int attr_host(struct dump_ctx *c, const struct attr_host **ret, struct err *err);

/* Remembers whose Mm record to complete, and finds it again (NULL: none). */
int attr_remember_mm(struct dump_ctx *c, const struct tracee *t, Cpx__Mm *mm, struct err *err);
Cpx__Mm *attr_recall_mm(const struct dump_ctx *c, const struct tracee *t);

/* Adds a refusal about a task; 0 or -ENOMEM (in err). */
int attr_refuse(struct dump_ctx *c, const struct tracee *t, const char *object, struct err *err,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The result of call index as an error "cannot <what>: ...", 0 if it is none. */
int attr_result(const struct batch *b, unsigned index, const char *what, struct err *err);

/* ---- restore ---- */

/* Our own credentials, from which those of the restored tasks are reached. */
struct attr_self {
	uid_t uid[4]; /* real, effective, saved, filesystem */
	gid_t gid[4];
	gid_t *groups; /* ascending */
	size_t ngroups;
	uint64_t inheritable, permitted, effective, bounding, ambient;
	uint64_t all; /* every capability that this kernel has */
	uint32_t securebits;
	bool no_new_privs;
	bool is_initial_ns; /* in the initial user namespace: capabilities count everywhere */
};

/* What the tasks will start with: ours or, where c->in_user_ns, what a fresh user namespace gives. Valid until
 * attrs_restore_release(). */
int attr_self_get(struct restore_ctx *c, const struct attr_self **ret, struct err *err);

/* creds.c: has a thread the ids that all threads start with? */
bool creds_has_own_ids(const struct restore_ctx *c, const Cpx__Creds *cr, const struct attr_self *own);
/* For the moment, the effective capabilities that it will have in the end; and back. */
void creds_lend(struct batch *b, const Cpx__Creds *cr, const struct attr_self *own);
void creds_take_back(struct batch *b, const struct attr_self *own);

/* Will we have this capability: in the user namespace of the tree; in the initial one (capable() in
 * the kernel), which a user namespace never gives. Both false when that cannot be found out. */
bool attr_can(struct restore_ctx *c, int cap);
bool attr_can_globally(struct restore_ctx *c, int cap);

int attr_refuse_restore(struct restore_ctx *c, const Cpx__Task *task, const char *object, struct err *err,
			const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* "cap_sys_admin,cap_kill" of a mask. */
void attr_cap_names(uint64_t mask, char *buf, size_t size);

static inline uint64_t cap_bit(int cap)
{
	return 1ULL << cap;
}

extern const struct attr_ops mm_attr_ops, fs_attr_ops, signals_attr_ops, thread_signals_attr_ops,
	threadmem_attr_ops, creds_attr_ops, no_new_privs_attr_ops, sched_attr_ops, thread_flags_attr_ops,
	process_flags_attr_ops, itimers_attr_ops, posix_timers_attr_ops, timer_starts_attr_ops,
	rlimits_attr_ops, seccomp_attr_ops, semundo_attr_ops, membarrier_attr_ops, ldt_attr_ops,
	control_attr_ops, name_attr_ops, keyrings_attr_ops, lsm_attr_ops, landlock_attr_ops;

#endif
