/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mailbox: memory shared with tasks under our control, made of lanes. One lane drives one
 * remote thread, which sits in the loop of src/arch (arch_loop_code), runs a batch when it is
 * given its turn, and otherwise waits in a futex.
 *
 * Hand-over without lost wake-ups, and death-safe: the remote thread waits on park[turn & 1],
 * whose word is (our tid | FUTEX_WAITERS) and is on our robust list. To hand over batch number
 * n, cpx first arms park[(n + 1) & 1], then writes ncalls, then sets park[n & 1] to 0 and wakes
 * it. When cpx dies the kernel sets FUTEX_OWNER_DIED in the armed word and wakes the waiter
 * (kernel/futex/core.c, handle_futex_death), which then leaves as `leave` says.
 */
#ifndef CPX_TRACEE_MAILBOX_H
#define CPX_TRACEE_MAILBOX_H

#include "arch/lane_abi.h"
#include "base/err.h"
#include "tracee/batch.h"

#include <linux/futex.h>
#include <sys/types.h>

#define LANE_CALLS 1000
#define LANE_SIZE  (192UL << 10) /* the struct, then the data area (128000 bytes) */

/* Offsets 0-63 and 64.. are known to the machine code (asserted in src/arch). */
struct lane {
	struct {
		uint32_t word, pad;
	} park[2]; /* 0 */
	struct robust_list
		node[2];       /* 16: our robust list entries; offset to the word is constant */
	uint32_t turn;	       /* 32: number of the batch waited for */
	uint32_t ncalls;       /* 36 */
	uint32_t done;	       /* 40: turn of the last finished batch + 1, a futex */
	uint32_t ready;	       /* 44: LANE_IS_READY (arch/lane_abi.h) after lane_init() */
	uint64_t leave_gadget; /* 48: 0: leave by exit_group(0); else jump there ... */
	uint64_t leave_nr;     /* 56: ... with this call and these arguments; */
	uint64_t leave_arg[6]; /* 64: the return address is on the stack */
	uint32_t owner;	       /* 112: the thread on whose robust list the lane is */
	uint32_t posted;       /* 116: value of done once the posted batch has run */
	uint32_t inside;       /* 120: LANE_OUTSIDE ..., of a peer (peers.c) */
	uint32_t npeers;       /* 124: in the host's lane */
	struct call call[LANE_CALLS]; /* 128 */
};

/* A call with this number is no system call: it scans memory for pages that are all zero.
 * arg[0] page-aligned address, arg[1] number of pages, arg[2] remote address of a bitmap to
 * fill, one bit a page, LSB first (1: all zero), arg[1] rounded up to whole 64-bit words.
 * The memory must be readable. */
#define CALL_ZERO_SCAN 0xfffffff0UL

/* Nor is one with this: 1 if the task has segment descriptors of its own (modify_ldt(2)), else 0. */
#define CALL_LDT_SCAN 0xfffffff1UL

/*
 * Nor with these, which make decisions that cannot wait for us, as we may die. They make system calls of their own, so
 * they are not for threads under seccomp; and only for those in the loop.
 *
 * CALL_SKIP: when the 64-bit word at arg[0] is not arg[1], the next arg[2] calls are not run.
 */
#define CALL_SKIP 0xfffffff2UL
/*
 * Reads from descriptor arg[0], by reads of arg[2] bytes to arg[1], until one fails or there have been arg[3], and writes
 * what it got to arg[5], ready to be typed again by the struct drain_rules at arg[4]. {arg[5], ret} is a struct iovec of it.
 * Must be large enough for twice what is read and one byte a read.
 */
#define CALL_DRAIN 0xfffffff3UL
struct drain_rules {
	/* Of each byte. 1: `quote` is put before it; DRAIN_ENDS: the same, unless it is the last of a read. */
	uint8_t kind[256];
	uint8_t quote;
	uint8_t end;
	/* `end` is put after a read: 0: never; DRAIN_IF_UNENDED: that does not end in a DRAIN_ENDS byte; DRAIN_IF_EMPTY: of no
	 * bytes. */
	uint8_t when;
};
/*
 * Writes all of the struct iovec at arg[1] to descriptor arg[0], at most arg[2] bytes at once. A write that fails is tried again
 * after a millisecond, arg[3] times in all. The result is how much could not be written.
 */
#define CALL_PUT 0xfffffff4UL
/*
 * The accumulators of XXH3 over the struct iovecs at arg[0], whose lengths are whole pages, arg[1] * 64 bytes in all (at
 * least one page): eight words at arg[2], in and out, by the secret at arg[3]. See twinhash.c for what comes before and after.
 * It uses vector registers: for twins only, which give none of theirs back.
 */
#define CALL_HASH 0xfffffff5UL
/* The last of a batch: the thread waits at leave_gadget, and so out of the loop, for what it would wait for in it. */
#define CALL_PARK 0xfffffff6UL

/* A clone-like call whose child is to go on in a lane of its own: in the child (result 0) the
 * loop switches to the lane at remote address arg[5] and waits for its first turn there. arg[5]
 * must be 0 in all other calls of these numbers. Applies to SYS_clone and SYS_clone3. */

struct mailbox {
	uint8_t *local;	 /* our mapping */
	uint64_t remote; /* where it is in the task(s) */
	size_t nlanes;
	size_t size;
	unsigned *users; /* of `local`: the injection, a twin; owned by all of them */
};

/* Another user of the memory of m. */
struct mailbox mailbox_share(const struct mailbox *m);
/* One user less. */
void mailbox_release(struct mailbox *m);

struct lane *mailbox_lane(const struct mailbox *m, size_t i);
uint64_t mailbox_lane_remote(const struct mailbox *m, size_t i);

/* Arms a lane before its thread starts: turn 0, nothing to do, on our robust list; leave_* stay as they are. The calling
 * thread must be the one that lives until the end of cpx. */
int lane_init(struct lane *l, struct err *err);
/* The same in memory that is still all zero, for a thread that the kernel kills when we die
 * (PTRACE_O_EXITKILL): it needs no place on the robust list, whose length is limited. */
void lane_init_fresh(struct lane *l);
/* Takes a lane off our robust list. Must happen before the mailbox is unmapped here. */
void lane_retire(struct lane *l);

/* A batch (emptied) on a lane. */
struct batch lane_batch(const struct mailbox *m, size_t i);

/* Both in one, for a thread that is not in the loop yet. */
int lane_init_posted(struct lane *l, const struct batch *b, struct err *err);

/* Hands the batch over and returns at once. */
int lane_post(struct lane *l, const struct batch *b, struct err *err);
/* Waits for it. pidfd (>= 0) is the thread group's: its death ends the wait with -ESRCH; so does that
 * of the thread, which must be given when its threads are traced: a group whose zombies the tracer has
 * not reaped is not dead to the pidfd. tid 0: is not traced. */
int lane_wait(struct lane *l, int pidfd, pid_t tid, struct err *err);
/* True when the posted batch has run; waits up to timeout_ms for it. */
bool lane_is_done(struct lane *l, unsigned timeout_ms);
/* For another process than the one that posts, which may be dead: whether a batch runs. Wakes its thread once more, in case that was all
 * that was left to do. */
bool lane_is_running(struct lane *l);
int lane_run(struct lane *l, const struct batch *b, int pidfd, pid_t tid, struct err *err);

#endif
