/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches: filling a lane with calls and their data.
 */
#include "tracee/batch.h"

#include "base/util.h"

#define DATA_ALIGN 16UL

unsigned batch_add(struct batch *b, uint64_t nr, const uint64_t arg[6])
{
	struct call *c;

	if (b->n >= b->max) {
		b->overflow = true;
		return 0;
	}
	c = &b->call[b->n];
	c->nr = nr;
	memcpy(c->arg, arg, sizeof(c->arg));
	c->ret = -ENOSYS;
	return b->n++;
}

uint64_t batch_out(struct batch *b, size_t size)
{
	size_t at = ALIGN_UP(b->used, DATA_ALIGN);

	if (at > b->size || size > b->size - at) {
		b->overflow = true;
		return 0;
	}
	memset(b->data + at, 0, size);
	b->used = at + size;
	return b->remote_data + at;
}

uint64_t batch_in(struct batch *b, const void *data, size_t size)
{
	uint64_t remote = batch_out(b, size);

	if (remote && size)
		memcpy(batch_local(b, remote), data, size);
	return remote;
}

uint64_t batch_in_str(struct batch *b, const char *s)
{
	return batch_in(b, s, strlen(s) + 1);
}

struct batch batch_part(struct batch *b, struct call *call, unsigned max, size_t size)
{
	uint64_t remote = batch_out(b, size);

	return (struct batch){
		.call = call,
		.max = max,
		.data = remote ? batch_local(b, remote) : NULL,
		.remote_data = remote,
		.size = remote ? size : 0,
		.overflow = !remote,
	};
}

void *batch_local(const struct batch *b, uint64_t remote)
{
	return b->data + (remote - b->remote_data);
}

uint64_t batch_call_at(const struct batch *b, unsigned index)
{
	return b->remote_data - (b->data - (uint8_t *)&b->call[index]);
}

int64_t batch_ret(const struct batch *b, unsigned index)
{
	return b->call[index].ret;
}

bool batch_is_tight(const struct batch *b, unsigned calls, size_t data)
{
	return b->max - b->n < calls || b->size - b->used < data + DATA_ALIGN;
}

void batch_reset(struct batch *b)
{
	b->n = 0;
	b->used = 0;
	b->overflow = false;
}
