/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keyrings that are a thread's or a process's alone (keyrings(7)): asked by KEYCTL_READ, which says
 * how many keys they have. Empty ones are made again; keys are refused: their payload may not be
 * read by anybody, and they end with the task.
 *
 * Not kept: session keyrings, a restored tree has that of cpx. To ask for one would give the task
 * one.
 */
#include "res/attr.h"

#include <linux/keyctl.h>
#include <sys/syscall.h>

static const struct {
	int64_t id;
	const char *name;
} keyring[] = {
	{KEY_SPEC_THREAD_KEYRING, "thread keyring"},
	{KEY_SPEC_PROCESS_KEYRING, "process keyring"},
};

/* scratch[i]: the call + 1. */
static int keyrings_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const struct tracee_thread *thread = attr_thread(t, th);

	/* A filter that kills for it has hardly let it make any. */
	for (size_t i = 0; i < ARRAY_SIZE(keyring) && tracee_may_call(thread, SYS_keyctl); i++)
		scratch[i] = 1 + BATCH_CALL(b, SYS_keyctl, KEYCTL_READ, (uint64_t)keyring[i].id);
	return 0;
}

static int take_one(struct dump_ctx *c, struct tracee *t, Cpx__Thread *th, size_t i, int64_t bytes,
		    struct err *err)
{
	if (bytes == -ENOKEY || bytes == -ENOSYS || bytes == -EOPNOTSUPP)
		return 0;
	if (bytes == 0) {
		th->creds->empty_keyrings |= 1U << i;
		return 0;
	}
	return attr_refuse(
		c, t, keyring[i].name, err,
		"cannot be checkpointed: thread %u keeps keys in it, which cannot be read",
		th->tid);
}

static int keyrings_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			 const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keyring) && r == 0; i++)
		if (scratch[i])
			r = take_one(c, t, th, i, batch_ret(b, scratch[i] - 1), err);
	return r;
}

/* By the task itself, whose they are to be. */
static int keyrings_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			 const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	for (size_t i = 0; stage == GIVE_LATE && th->creds && i < ARRAY_SIZE(keyring); i++)
		if (th->creds->empty_keyrings & 1U << i)
			BATCH_CALL(b, SYS_keyctl, KEYCTL_GET_KEYRING_ID, (uint64_t)keyring[i].id,
				   1);
	return 0;
}

const struct attr_ops keyrings_attr_ops = {
	.name = "keyrings",
	.per_thread = true,
	.ask = keyrings_ask,
	.take = keyrings_take,
	.give = keyrings_give,
};
