/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Registrations of membarrier(2), which belong to an address space. The private kinds are asked by
 * making the barrier, which fails with EPERM where it is not registered, and else does nothing to a
 * task that stands still; the global one by MEMBARRIER_CMD_GET_REGISTRATIONS (Linux 6.3), which cannot
 * tell whether a private kind was registered by itself or by another. Before 6.3 nobody can tell of the
 * global kind: a task then has it after a restore, which costs others an interrupt and nobody a barrier.
 */
#include "res/attr.h"

#include "base/kabi.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>

static const struct {
	unsigned barrier, registration;
} kinds[] = {
	{MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED},
	{MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE},
	{MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ},
	{0, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED},
};
enum { PRIVATE = ARRAY_SIZE(kinds) - 1 };

/* scratch: the calls. */
static int membarrier_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			  const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			  struct err *err)
{
	for (size_t i = 0; i < PRIVATE; i++)
		scratch[i] = BATCH_CALL(b, SYS_membarrier, kinds[i].barrier);
	scratch[PRIVATE] = BATCH_CALL(b, SYS_membarrier,
				      is_denied("membarrier_registrations")
					      ? UINT32_MAX >> 1
					      : KABI_MEMBARRIER_GET_REGISTRATIONS);
	return 0;
}

/* A kernel without membarrier(2) at all says ENOSYS. */
static bool is_global(int64_t r)
{
	return r >= 0 ? r & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED : r == -EINVAL;
}

static int membarrier_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			   const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th,
			   struct err *err)
{
	task->membarrier = 0;
	for (size_t i = 0; i < PRIVATE; i++)
		if (batch_ret(b, scratch[i]) == 0)
			task->membarrier |= kinds[i].registration;
	if (is_global(batch_ret(b, scratch[PRIVATE])))
		task->membarrier |= kinds[PRIVATE].registration;
	return 0;
}

/* Where threads are there already the kernel takes some milliseconds for a private kind. */
static int membarrier_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			   const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			   struct err *err)
{
	for (size_t i = 0; stage == GIVE_MAIN && i < ARRAY_SIZE(kinds); i++)
		if (task->membarrier & kinds[i].registration)
			BATCH_CALL(b, SYS_membarrier, kinds[i].registration);
	return 0;
}

const struct attr_ops membarrier_attr_ops = {
	.name = "membarrier registrations",
	.ask = membarrier_ask,
	.take = membarrier_take,
	.give = membarrier_give,
};
