/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places in a thread's memory that the kernel has been told of: robust futex list, clear_child_tid,
 * rseq area. Reads get_robust_list(2) and PTRACE_GET_RSEQ_CONFIGURATION from outside, asks
 * PR_GET_TID_ADDRESS.
 *
 * rseq comes last: from then on the kernel writes the area whenever the thread returns to user mode
 * (kernel/rseq.c), so the memory must stand. A thread that still has the registration of the cpx it
 * was forked from must have lost it before (the engine's business).
 */
#include "res/attr.h"

#include "base/kabi.h"

#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

enum { RSEQ_ORIGINAL_SIZE = 32, ROBUST_HEAD_SIZE = 24 };

static int read_rseq(const struct tracee_thread *thread, Cpx__ThreadMemory *m, struct err *err)
{
	struct kabi_rseq_configuration conf = {0};
	long r = ptrace((enum __ptrace_request)KABI_PTRACE_GET_RSEQ_CONFIGURATION, thread->tid,
			(void *)sizeof(conf), &conf);

	if (r < 0 && errno != EIO && errno != EINVAL) /* EIO: a kernel without rseq */
		return err_sys(err, -errno, "cannot read the rseq registration of thread %d",
			       thread->tid);
	if (r < 0 || !conf.rseq_abi_pointer)
		return 0;
	m->rseq = conf.rseq_abi_pointer;
	m->rseq_len = conf.rseq_abi_size;
	m->rseq_signature = conf.signature;
	m->rseq_flags = conf.flags;
	return 0;
}

static int threadmem_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			  Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	void *head = NULL;
	size_t len = 0;

	th->memory = MSG_NEW(Cpx__ThreadMemory, cpx__thread_memory__init);
	if (!th->memory)
		return err_nomem(err);
	if (syscall(SYS_get_robust_list, thread->tid, &head, &len) < 0)
		return err_sys(err, -errno, "cannot read the robust futex list of thread %d",
			       thread->tid);
	th->memory->robust_list = (uintptr_t)head;
	th->memory->robust_len = head ? len : 0;
	return read_rseq(thread, th->memory, err);
}

static int threadmem_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			 const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[0] = batch_out(b, sizeof(uint64_t));
	scratch[1] = BATCH_CALL(b, SYS_prctl, PR_GET_TID_ADDRESS, scratch[0]);
	return 0;
}

static int threadmem_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			  const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			  struct err *err)
{
	int r = attr_result(b, scratch[1],
			    "read clear_child_tid (is CONFIG_CHECKPOINT_RESTORE in this kernel?)",
			    err);

	if (r == 0)
		memcpy(&th->memory->clear_child_tid, batch_local(b, scratch[0]), sizeof(uint64_t));
	return r;
}

/* kernel/rseq.c: before 6.3 only the original size was taken. */
static bool is_rseq_size_known(uint32_t len)
{
	return len == RSEQ_ORIGINAL_SIZE || getauxval(AT_RSEQ_FEATURE_SIZE) > 0;
}

static int threadmem_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			   struct err *err)
{
	const Cpx__ThreadMemory *m = th->memory;

	if (!m)
		return 0;
	if (m->robust_list && m->robust_len != ROBUST_HEAD_SIZE)
		return err_set(err, -EBADMSG, "a robust futex list of %llu bytes",
			       (unsigned long long)m->robust_len);
	if (m->rseq && !is_rseq_size_known(m->rseq_len))
		return attr_refuse_restore(
			c, task, "rseq", err,
			"cannot be restored: this kernel knows no rseq area of %u bytes; "
			"Linux 6.3 does",
			m->rseq_len);
	return 0;
}

static int threadmem_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			  const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			  struct err *err)
{
	const Cpx__ThreadMemory *m = th->memory;

	if (!m || stage != GIVE_LATE)
		return 0;
	if (m->robust_list)
		BATCH_CALL(b, SYS_set_robust_list, m->robust_list, m->robust_len);
	BATCH_CALL(b, SYS_set_tid_address, m->clear_child_tid);
	if (m->rseq)
		BATCH_CALL(b, SYS_rseq, m->rseq, m->rseq_len, m->rseq_flags, m->rseq_signature);
	return 0;
}

const struct attr_ops threadmem_attr_ops = {
	.name = "thread memory",
	.per_thread = true,
	.read = threadmem_read,
	.ask = threadmem_ask,
	.take = threadmem_take,
	.check = threadmem_check,
	.give = threadmem_give,
};
