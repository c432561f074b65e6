/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Seccomp filters, of threads. src/tracee has read them (PTRACE_SECCOMP_GET_FILTER); here they are
 * recorded, each once, in the first task that has it, as a chain: every filter names the one that
 * was there before it.
 *
 * A restored thread has its filters long before the end, suspended as long as it is traced
 * (PTRACE_O_SUSPEND_SECCOMP), while it still has the capability to install them. What all threads
 * of a task have in common is installed once for all (SECCOMP_FILTER_FLAG_TSYNC), so that it is
 * shared again and a later synchronization of the application works.
 *
 * Not kept: sharing between some threads of a task that others do not have; between tasks it cannot
 * be noticed. Refused: filters that ask another process, strict mode.
 */
#include "res/attr.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- dump ---- */

static int record(Cpx__Task *task, struct seccomp_filter *f, struct err *err)
{
	Cpx__SeccompFilter *m = MSG_NEW(Cpx__SeccompFilter, cpx__seccomp_filter__init);

	if (!m || msg_append(&task->seccomp_filter, &task->n_seccomp_filter, m) < 0) {
		free(m);
		return err_nomem(err);
	}
	m->id = f->id;
	m->parent = f->parent ? f->parent->id : 0;
	m->log = f->is_logged;
	f->is_recorded = true;
	return msg_set_bytes(&m->program, f->insn, f->n * sizeof(f->insn[0])) < 0 ? err_nomem(err)
										  : 0;
}

/* The oldest of a chain that is not in a record yet. */
static struct seccomp_filter *next_to_record(struct seccomp_filter *f)
{
	while (f && !f->is_recorded && f->parent && !f->parent->is_recorded)
		f = f->parent;
	return f && !f->is_recorded ? f : NULL;
}

static int seccomp_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	struct seccomp_filter *f;
	int r = 0;

	th->seccomp = thread->filter ? thread->filter->id : 0;
	while (r == 0 && (f = next_to_record(thread->filter)))
		r = record(task, f, err);
	return r;
}

/* ---- restore ---- */

static int seccomp_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			 struct err *err)
{
	if (!th->seccomp)
		return 0;
	if (prctl(PR_GET_SECCOMP) > 0)
		return attr_refuse_restore(c, task, "seccomp", err,
					   "cannot be restored: cpx itself runs under seccomp");
	if (!attr_can_globally(c, CAP_SYS_ADMIN))
		return attr_refuse_restore(c, task, "seccomp", err,
					   "cannot be restored: filters need cap_sys_admin; "
					   "restore as root");
	return 0;
}

/* The filter that has `depth` others below it in the chain of th; NULL: there are not so many. */
static const Cpx__SeccompFilter *filter_at(const struct image *im, const Cpx__Thread *th,
					   size_t depth)
{
	const Cpx__SeccompFilter *f = image_seccomp_filter(im, th->seccomp);
	size_t n = image_seccomp_depth(im, th->seccomp);

	if (depth >= n)
		return NULL;
	while (--n > depth)
		f = image_seccomp_filter(im, f->parent);
	return f;
}

/* The newest filter that both chains have; a filter's number is above that of its parent. */
static uint32_t common_filter(const struct image *im, uint32_t a, uint32_t b)
{
	while (a != b) {
		uint32_t *newer = a > b ? &a : &b;

		*newer = image_seccomp_filter(im, *newer)->parent;
	}
	return a;
}

/* How many filters, from the oldest on, all threads have, if the leader can install them. */
static size_t count_common(const struct image *im, const Cpx__Task *task)
{
	uint32_t common = task->thread[0]->seccomp;

	if (task->thread[0]->exited || task->n_thread < 2)
		return 0;
	for (size_t i = 1; i < task->n_thread; i++)
		common = common_filter(im, common, task->thread[i]->seccomp);
	return image_seccomp_depth(im, common);
}

static void add_filter(struct batch *b, const Cpx__SeccompFilter *f, uint64_t flags)
{
	const struct sock_fprog program = {
		.len = f->program.len / sizeof(struct sock_filter),
		.filter = (void *)(uintptr_t)batch_in(b, f->program.data, f->program.len),
	};

	/* What a filter does to speculation is restored for itself. */
	BATCH_CALL(b, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		   flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW | (f->log ? SECCOMP_FILTER_FLAG_LOG : 0),
		   batch_in(b, &program, sizeof(program)));
}

/* Filters [*at, end) of the chain. 1: the batch is full. */
static int add_filters(const struct image *im, const Cpx__Thread *th, struct batch *b, uint64_t *at,
		       size_t end, uint64_t flags)
{
	for (; *at < end; ++*at) {
		const Cpx__SeccompFilter *f = filter_at(im, th, *at);

		if (batch_is_tight(b, 2, f->program.len + 64))
			return 1;
		add_filter(b, f, flags);
	}
	return 0;
}

/* scratch[0]: the next filter, [1]: of this stage and so on. Still with every capability, before
 * creds.c. */
static int seccomp_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	size_t common;

	if (!th->seccomp || (stage != GIVE_MAIN && stage != GIVE_CREDS))
		return 0;
	common = count_common(c->image, task);
	if (stage == GIVE_MAIN && th == task->thread[0])
		return add_filters(c->image, th, b, &scratch[0], common, SECCOMP_FILTER_FLAG_TSYNC);
	if (stage == GIVE_MAIN)
		return 0;
	scratch[1] = MAX(scratch[1], common);
	return add_filters(c->image, th, b, &scratch[1], image_seccomp_depth(c->image, th->seccomp),
			   0);
}

static int seccomp_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			 const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
			 struct err *err)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->call[i].nr == SYS_seccomp && batch_ret(b, i))
			return err_sys(err, batch_ret(b, i) < 0 ? (int)batch_ret(b, i) : -ESRCH,
				       "cannot install a filter");
	return 0;
}

const struct attr_ops seccomp_attr_ops = {
	.name = "seccomp",
	.per_thread = true,
	.read = seccomp_read,
	.check = seccomp_check,
	.give = seccomp_give,
	.given = seccomp_given,
};
