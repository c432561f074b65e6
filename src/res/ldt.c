/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Segment descriptors that a task has made by modify_ldt(2): of its address space. That there are
 * any is asked first; all are read when there are. Where a filter of seccomp would kill for the
 * call, the table is felt for by machine code; what it finds cannot be read then, and is refused.
 */
#include "res/attr.h"
#include "tracee/mailbox.h"

#include <sys/syscall.h>

enum { ENTRY_SIZE = 8, TABLE_SIZE = 65536 };

/* scratch[0]: the call + 1. */
static int ldt_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		   const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	if (!attr_recall_mm(c, t))
		return 0;
	if (tracee_may_call(attr_speaker(t), ARCH_NR_MODIFY_LDT))
		scratch[0] =
			BATCH_CALL(b, ARCH_NR_MODIFY_LDT, 0, batch_out(b, ENTRY_SIZE), ENTRY_SIZE);
	else
		scratch[0] = BATCH_CALL(b, CALL_LDT_SCAN);
	scratch[0]++;
	return 0;
}

/* Leaves one entry in the record, for ldt_reread(). */
static int ldt_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
		    const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	static const uint8_t zeroes[ENTRY_SIZE];

	if (!scratch[0] || batch_ret(b, scratch[0] - 1) <= 0)
		return 0; /* none, or a kernel without the call */
	if (!tracee_may_call(attr_speaker(t), ARCH_NR_MODIFY_LDT))
		return attr_refuse(
			c, t, "segment descriptors", err,
			"cannot be checkpointed: its seccomp filter forbids modify_ldt(2), "
			"by which they are read");
	return msg_set_bytes(&attr_recall_mm(c, t)->ldt, zeroes, ENTRY_SIZE) < 0 ? err_nomem(err)
										 : 0;
}

/* Without the empty entries at the end. */
static size_t used_bytes(const uint8_t *table, size_t n)
{
	while (n && !table[n - 1])
		n--;
	return ALIGN_UP(n, (size_t)ENTRY_SIZE);
}

static int ldt_reread(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		      Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	Cpx__Mm *mm = attr_recall_mm(c, t);
	struct batch b;
	uint64_t out;
	int64_t n;
	int r;

	if (!mm || !mm->ldt.len)
		return 0;
	b = tracee_batch(t);
	out = batch_out(&b, TABLE_SIZE);
	BATCH_CALL(&b, ARCH_NR_MODIFY_LDT, 0, out, TABLE_SIZE);
	r = tracee_run(t, &b, err);
	if (r < 0)
		return r;
	n = batch_ret(&b, 0);
	if (n < 0 || n > TABLE_SIZE)
		return err_sys(err, n < 0 ? (int)n : -EIO, "cannot read the segment descriptors");
	free(mm->ldt.data);
	mm->ldt = (ProtobufCBinaryData){0};
	return msg_set_bytes(&mm->ldt, batch_local(&b, out),
			     used_bytes(batch_local(&b, out), (size_t)n)) < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- restore ---- */

/* That of the first task with this address space, from which others have it or inherit nothing of
 * it. */
static const ProtobufCBinaryData *table_of(const struct restore_ctx *c, const Cpx__Task *task)
{
	const Cpx__Mm *mm = c->image ? image_mm(c->image, task->mm) : NULL;

	return mm && mm->pid == task->pid && mm->ldt.len ? &mm->ldt : NULL;
}

/* Does this kernel know the call? */
static int ldt_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		     struct err *err)
{
	uint64_t entry;

	if (!table_of(c, task) ||
	    syscall(ARCH_NR_MODIFY_LDT, 0, &entry, sizeof(entry)) >= 0)
		return 0;
	return attr_refuse_restore(c, task, "segment descriptors", err,
				   "cannot be restored: this kernel has no modify_ldt(2)");
}

/* scratch[0]: the next entry. */
static int ldt_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		    const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const ProtobufCBinaryData *table = stage == GIVE_MAIN ? table_of(c, task) : NULL;

	for (; table && scratch[0] < table->len / ENTRY_SIZE; scratch[0]++) {
		uint8_t call[ARCH_LDT_CALL_SIZE];
		uint64_t entry;

		if (batch_is_tight(b, 2, 64))
			return 1;
		memcpy(&entry, table->data + scratch[0] * ENTRY_SIZE, sizeof(entry));
		if (arch_ldt_call(entry, (unsigned)scratch[0], call))
			BATCH_CALL(b, ARCH_NR_MODIFY_LDT, ARCH_LDT_WRITE,
				   batch_in(b, call, sizeof(call)), sizeof(call));
	}
	return 0;
}

/* The call returns an int as if it were unsigned. */
static int ldt_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		     const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
		     struct err *err)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->call[i].nr == ARCH_NR_MODIFY_LDT && (int)batch_ret(b, i) < 0)
			return err_sys(err, (int)batch_ret(b, i),
				       "cannot set a segment descriptor");
	return 0;
}

const struct attr_ops ldt_attr_ops = {
	.name = "segment descriptors",
	.ask = ldt_ask,
	.take = ldt_take,
	.reread = ldt_reread,
	.check = ldt_check,
	.give = ldt_give,
	.given = ldt_given,
};
