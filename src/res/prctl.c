/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Odds and ends of a task and a thread: prctl(2) settings, personality(2), oom_score_adj,
 * coredump_filter. Asks the PR_GET_* calls; reads
 * /proc/TID/{personality,oom_score_adj,coredump_filter} from outside.
 */
#include "res/attr.h"

#include "base/kabi.h"
#include "base/log.h"
#include "mem/mem.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

/* ---- of a thread ---- */

static int thread_flags_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			     Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	th->flags = MSG_NEW(Cpx__ThreadFlags, cpx__thread_flags__init);
	if (!th->flags)
		return err_nomem(err);
	return 0;
}

enum { ASK_PDEATHSIG, ASK_TSC, ASK_SLACK, ASK_PERSONALITY };

/* scratch[ASK_*]: the calls; scratch[8]: remote ints pdeathsig and tsc. All of it could be read
 * from outside for some threads only, and slower. */
static int thread_flags_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			    const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			    struct err *err)
{
	scratch[8] = batch_out(b, 2 * sizeof(uint32_t));
	scratch[ASK_PDEATHSIG] = BATCH_CALL(b, SYS_prctl, PR_GET_PDEATHSIG, scratch[8]);
	scratch[ASK_TSC] = BATCH_CALL(b, SYS_prctl, PR_GET_TSC, scratch[8] + sizeof(uint32_t));
	scratch[ASK_SLACK] = BATCH_CALL(b, SYS_prctl, PR_GET_TIMERSLACK);
	scratch[ASK_PERSONALITY] = BATCH_CALL(b, SYS_personality, 0xffffffff);
	return 0;
}

static int thread_flags_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			     const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			     struct err *err)
{
	const uint32_t *value = batch_local(b, scratch[8]);
	int r = attr_result(b, scratch[ASK_PDEATHSIG], "read the parent death signal", err);

	if (r == 0)
		r = attr_result(b, scratch[ASK_TSC], "read the time stamp counter's mode", err);
	if (r == 0)
		r = attr_result(b, scratch[ASK_SLACK], "read the timer slack", err);
	if (r < 0)
		return r;
	th->flags->pdeathsig = value[0];
	th->flags->tsc_mode = value[1];
	th->flags->timer_slack_ns = batch_ret(b, scratch[ASK_SLACK]);
	th->flags->personality_diff =
		(uint32_t)batch_ret(b, scratch[ASK_PERSONALITY]) ^ task->flags->personality;
	return 0;
}

/* A personality may make every readable mapping executable (READ_IMPLIES_EXEC), credentials that
 * change reset the death signal: both come late. Timer slack of real-time threads reads 0 and
 * cannot be set. */
static int thread_flags_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			     const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			     struct err *err)
{
	const Cpx__ThreadFlags *f = th->flags;

	if (!f)
		return 0;
	if (stage == GIVE_MAIN && f->timer_slack_ns)
		BATCH_CALL(b, SYS_prctl, PR_SET_TIMERSLACK, f->timer_slack_ns);
	if (stage != GIVE_LATE)
		return 0;
	BATCH_CALL(b, SYS_prctl, PR_SET_PDEATHSIG, f->pdeathsig);
	if (f->tsc_mode)
		BATCH_CALL(b, SYS_prctl, PR_SET_TSC, f->tsc_mode);
	if (task->flags)
		BATCH_CALL(b, SYS_personality, task->flags->personality ^ f->personality_diff);
	return 0;
}

/* personality(2) returns the one before, as an unsigned number. */
static int thread_flags_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			      const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
			      struct err *err)
{
	static const struct {
		uint64_t option;
		const char *what;
	} calls[] = {
		{PR_SET_TIMERSLACK, "set the timer slack"},
		{PR_SET_PDEATHSIG, "set the parent death signal"},
		{PR_SET_TSC, "set the time stamp counter's mode"},
	};
	int r = 0;

	for (unsigned i = 0; i < b->n && r == 0; i++)
		for (size_t k = 0; k < ARRAY_SIZE(calls) && r == 0; k++)
			if (b->call[i].nr == SYS_prctl && b->call[i].arg[0] == calls[k].option)
				r = attr_result(b, i, calls[k].what, err);
	return r;
}

const struct attr_ops thread_flags_attr_ops = {
	.name = "flags of the thread",
	.per_thread = true,
	.read = thread_flags_read,
	.ask = thread_flags_ask,
	.take = thread_flags_take,
	.give = thread_flags_give,
	.given = thread_flags_given,
};

/* ---- of the task ---- */

static int process_flags_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			      Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = attr_open(c, t, NULL, &dir, err);

	if (r < 0)
		return r;
	task->flags = MSG_NEW(Cpx__ProcessFlags, cpx__process_flags__init);
	if (!task->flags)
		return err_nomem(err);
	r = proc_personality(dir, &task->flags->personality, err);
	if (r == 0)
		r = proc_oom_score_adj(dir, &task->flags->oom_score_adj, err);
	if (r == 0)
		r = proc_coredump_filter(dir, &task->flags->coredump_filter, err);
	return r;
}

enum { ASK_DUMPABLE, ASK_THP, ASK_SUBREAPER, ASK_MDWE, ASK_MERGE, ASK_XCOMP };

/* scratch[ASK_*]: the calls, scratch[8]: a remote int for the answer of PR_GET_CHILD_SUBREAPER, [9]: a word
 * for that of ARCH_GET_XCOMP_PERM. */
static int process_flags_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			     const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			     struct err *err)
{
	scratch[8] = batch_out(b, sizeof(uint32_t));
	scratch[ASK_DUMPABLE] = BATCH_CALL(b, SYS_prctl, PR_GET_DUMPABLE);
	scratch[ASK_THP] = BATCH_CALL(b, SYS_prctl, PR_GET_THP_DISABLE);
	scratch[ASK_SUBREAPER] = BATCH_CALL(b, SYS_prctl, PR_GET_CHILD_SUBREAPER, scratch[8]);
	scratch[ASK_MDWE] = BATCH_CALL(b, SYS_prctl, PR_GET_MDWE);
	scratch[ASK_MERGE] = BATCH_CALL(b, SYS_prctl, PR_GET_MEMORY_MERGE);
	scratch[9] = batch_out(b, sizeof(uint64_t));
	scratch[ASK_XCOMP] = BATCH_CALL(b, ARCH_NR_PRCTL, ARCH_PRCTL_GET_XCOMP_PERM, scratch[9]);
	return 0;
}

/* Negative: a kernel without them. */
static void take_modes(Cpx__ProcessFlags *f, const struct batch *b, const uint64_t *scratch)
{
	f->mdwe = MAX(batch_ret(b, scratch[ASK_MDWE]), 0);
	f->memory_merge = batch_ret(b, scratch[ASK_MERGE]) == 1;
	if (batch_ret(b, scratch[ASK_XCOMP]) == 0)
		f->xcomp = *(const uint64_t *)batch_local(b, scratch[9]) & ARCH_XCOMP_TO_ASK;
}

static int process_flags_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			      const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			      struct err *err)
{
	Cpx__ProcessFlags *f = task->flags;
	int r = attr_result(b, scratch[ASK_DUMPABLE], "read the dumpable flag", err);

	if (r == 0)
		r = attr_result(b, scratch[ASK_THP], "read the huge page setting", err);
	if (r == 0)
		r = attr_result(b, scratch[ASK_SUBREAPER], "read the subreaper flag", err);
	if (r < 0)
		return r;
	f->dumpable = batch_ret(b, scratch[ASK_DUMPABLE]);
	f->thp_disable = batch_ret(b, scratch[ASK_THP]) & 1;
	f->thp_flags = batch_ret(b, scratch[ASK_THP]) & ~1;
	f->child_subreaper = *(const uint32_t *)batch_local(b, scratch[8]) != 0;
	take_modes(f, b, scratch);
	return 0;
}

/* ---- restore ---- */

static int write_value(int dir, const char *name, const char *text, struct err *err)
{
	_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, -errno, "cannot open %s", name);
	if (write(fd, text, strlen(text)) < 0)
		return err_sys(err, -errno, "cannot write %s to %s", text, name);
	return 0;
}

static int write_oom(int dir, int value, struct err *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	return write_value(dir, "oom_score_adj", text, err);
}

/* How low a task may go without CAP_SYS_RESOURCE depends on what was once set with it and is in
 * no file (fs/proc/base.c, __set_oom_adj()): tries it on ourselves. */
static int try_oom(struct restore_ctx *c, const Cpx__Task *task, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int own = 0, r = proc_open(c->proc_fd, getpid(), 0, &dir, err);

	if (r == 0)
		r = proc_oom_score_adj(dir, &own, err);
	if (r < 0 || task->flags->oom_score_adj >= own)
		return r;
	if (write_oom(dir, task->flags->oom_score_adj, NULL) == 0)
		return write_oom(dir, own, err);
	return attr_refuse_restore(c, task, "oom_score_adj", err,
				   "cannot be restored: lowering it to %d needs cap_sys_resource; "
				   "restore with that capability",
				   task->flags->oom_score_adj);
}

static int process_flags_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			       struct err *err)
{
	const Cpx__ProcessFlags *f = task->flags;
	int r = 0;

	if (!f)
		return 0;
	if (!attr_can_globally(c, CAP_SYS_RESOURCE))
		r = try_oom(c, task, err);
	if (r == 0 && f->mdwe && prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0)
		r = attr_refuse_restore(c, task, "memory-deny-write-execute", err,
					"cannot be restored: this kernel has no PR_SET_MDWE (Linux "
					"6.3)");
	if (r == 0 && f->memory_merge && prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) < 0)
		r = attr_refuse_restore(c, task, "memory merging", err,
					"cannot be restored: this kernel has no "
					"PR_SET_MEMORY_MERGE (Linux 6.4, KSM)");
	if (r == 0 && f->thp_flags & ~PR_THP_DISABLE_EXCEPT_ADVISED)
		r = attr_refuse_restore(c, task, "huge page setting", err,
					"cannot be restored: unknown flags %#x", f->thp_flags);
	return r;
}

static int process_flags_give_outside(struct restore_ctx *c, const Cpx__Task *task, pid_t pid,
				      struct err *err)
{
	_cleanup_close_ int dir = -1;
	uint32_t filter = 0;
	char text[16];
	int oom = 0, r;

	if (!task->flags)
		return 0;
	r = proc_open(c->proc_fd, pid, 0, &dir, err);
	if (r == 0)
		r = proc_oom_score_adj(dir, &oom, err);
	if (r == 0)
		r = proc_coredump_filter(dir, &filter, err);
	if (r == 0 && oom != task->flags->oom_score_adj)
		r = write_oom(dir, task->flags->oom_score_adj, err);
	if (r < 0 || filter == task->flags->coredump_filter)
		return r;
	snprintf(text, sizeof(text), "%#x", task->flags->coredump_filter);
	return write_value(dir, "coredump_filter", text, err);
}

/* Set for all mappings that there are, and exceptions made again once their advice is complete: what is
 * mergeable by itself has been made so by then. scratch[0]: the next mapping. */
static int give_merging(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			struct batch *b, uint64_t *scratch)
{
	const Cpx__Mm *mm = task->flags->memory_merge ? image_mm(c->image, task->mm) : NULL;

	if (!mm || mm->pid != task->pid)
		return 0;
	if (stage == GIVE_EARLY)
		BATCH_CALL(b, SYS_prctl, PR_SET_MEMORY_MERGE, 1);
	for (; stage == GIVE_MAIN && scratch[0] < mm->n_vma; scratch[0]++) {
		const Cpx__Vma *v = mm->vma[scratch[0]];

		if (v->vm_flags & VMA_MERGEABLE)
			continue;
		if (batch_is_tight(b, 2, 64))
			return 1;
		BATCH_CALL(b, SYS_madvise, v->start, v->end - v->start, MADV_UNMERGEABLE);
	}
	return 0;
}

static void give_xcomp(const Cpx__ProcessFlags *f, struct batch *b)
{
	for (unsigned i = 0; i < 64; i++)
		if (f->xcomp & ARCH_XCOMP_TO_ASK & 1ULL << i)
			BATCH_CALL(b, ARCH_NR_PRCTL, ARCH_PRCTL_REQ_XCOMP_PERM, i);
}

static void give_main(const Cpx__ProcessFlags *f, struct batch *b)
{
	BATCH_CALL(b, SYS_prctl, PR_SET_THP_DISABLE, f->thp_disable,
		   f->thp_disable ? f->thp_flags : 0);
	BATCH_CALL(b, SYS_prctl, PR_SET_CHILD_SUBREAPER, f->child_subreaper);
	give_xcomp(f, b);
}

/* The kernel makes a task undumpable when its credentials change, so that comes late. 2 (readable
 * by root only) cannot be set by anybody; 0 is as strict. */
static void give_late(const Cpx__Task *task, struct batch *b)
{
	BATCH_CALL(b, SYS_prctl, PR_SET_DUMPABLE, task->flags->dumpable == 1);
	if (task->flags->mdwe)
		BATCH_CALL(b, SYS_prctl, PR_SET_MDWE, task->flags->mdwe);
	if (task->flags->dumpable > 1)
		log_warn("task %u: core dumps for root only (fs.suid_dumpable) become none",
			 task->pid);
}

static int process_flags_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			      const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			      struct err *err)
{
	if (!task->flags)
		return 0;
	if (stage == GIVE_MAIN && !scratch[0])
		give_main(task->flags, b);
	if (stage == GIVE_LATE)
		give_late(task, b);
	return give_merging(c, stage, task, b, scratch);
}

static int process_flags_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			       const Cpx__Thread *th, const struct batch *b,
			       const uint64_t *scratch, struct err *err)
{
	static const struct {
		uint64_t option;
		const char *what;
	} calls[] = {
		{PR_SET_THP_DISABLE, "set the huge page setting"},
		{PR_SET_CHILD_SUBREAPER, "set the subreaper flag"},
		{PR_SET_DUMPABLE, "set the dumpable flag"},
		{PR_SET_MDWE, "deny executable memory (PR_SET_MDWE)"},
		{PR_SET_MEMORY_MERGE, "have memory merged"},
	};
	int r = 0;

	for (unsigned i = 0; i < b->n && r == 0; i++)
		for (size_t k = 0; k < ARRAY_SIZE(calls) && r == 0; k++)
			if (b->call[i].nr == SYS_prctl && b->call[i].arg[0] == calls[k].option)
				r = attr_result(b, i, calls[k].what, err);
	return r;
}

const struct attr_ops process_flags_attr_ops = {
	.name = "flags of the task",
	.read = process_flags_read,
	.ask = process_flags_ask,
	.take = process_flags_take,
	.check = process_flags_check,
	.give = process_flags_give,
	.given = process_flags_given,
	.give_outside = process_flags_give_outside,
};
