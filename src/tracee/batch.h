/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A batch: system calls to be run by another task, with their data.
 *
 * A batch is a view of memory shared with that task (a lane of its mailbox, see mailbox.h), so
 * input and output data are plain memory on both sides: `local` pointers here, `remote`
 * addresses there. The calls run in order, all of them, whatever each returns.
 */
#ifndef CPX_TRACEE_BATCH_H
#define CPX_TRACEE_BATCH_H

#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

/* 64 bytes; the machine code in src/arch knows this layout. */
struct call {
	uint64_t nr;
	uint64_t arg[6];
	int64_t ret; /* result or -errno, as the kernel gives it */
};

struct batch {
	struct call *call; /* local view of the lane's calls */
	unsigned n, max;
	uint8_t *data; /* local view of the lane's data area */
	uint64_t remote_data;
	size_t used, size;
	bool overflow; /* something did not fit: running the batch fails with -E2BIG */
};

/* Adds a call and returns its index (valid until the next batch_reset()). Missing arguments are
 * 0. On overflow returns 0 and sets b->overflow. */
unsigned batch_add(struct batch *b, uint64_t nr, const uint64_t arg[6]);
#define BATCH_CALL(b, nr, ...) batch_add((b), (nr), (const uint64_t[6]){__VA_ARGS__})

/* Copies size bytes into the data area (16-byte aligned); returns the remote address, 0 on
 * overflow. */
uint64_t batch_in(struct batch *b, const void *data, size_t size);
uint64_t batch_in_str(struct batch *b, const char *s);

/* Reserves size zeroed bytes (16-byte aligned) for the kernel to write to; returns the remote
 * address, 0 on overflow. */
uint64_t batch_out(struct batch *b, size_t size);

/* A batch for threads that are stepped: its calls are ours alone (call, max), its data are size
 * bytes (16-byte aligned) taken out of those of b. When they do not fit it has overflowed. */
struct batch batch_part(struct batch *b, struct call *call, unsigned max, size_t size);

/* The local view of a remote address that batch_in() or batch_out() returned. */
void *batch_local(const struct batch *b, uint64_t remote);

/* The remote address of a call of the batch of a lane (no batch_part()). */
uint64_t batch_call_at(const struct batch *b, unsigned index);

int64_t batch_ret(const struct batch *b, unsigned index);

/* True when fewer than calls calls or data bytes are left: time to run and reset. */
bool batch_is_tight(const struct batch *b, unsigned calls, size_t data);

/* Forgets all calls and data. */
void batch_reset(struct batch *b);

#endif
