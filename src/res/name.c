/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names of threads, which each gives itself: prctl(2), PR_SET_NAME. They are dumped with the threads. */
#include "res/attr.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

void name_give(struct batch *b, const Cpx__Task *task, const Cpx__Thread *th)
{
	const ProtobufCBinaryData *comm = th && th->comm.len ? &th->comm : &task->comm;
	char name[16] = "";

	if (comm->len) /* else there may be no data to point to */
		memcpy(name, comm->data, MIN(comm->len, sizeof(name) - 1));
	BATCH_CALL(b, SYS_prctl, PR_SET_NAME, batch_in(b, name, sizeof(name)));
}

static int give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	if (stage == GIVE_MAIN)
		name_give(b, task, th);
	return 0;
}

const struct attr_ops name_attr_ops = {
	.name = "name",
	.per_thread = true,
	.give = give,
};
