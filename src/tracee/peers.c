/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Peers: threads that run a batch in the loop beside their task's host thread, so that the number
 * of stops does not grow with the number of calls.
 *
 * The pages belong to the host: should we die, it unmaps them, and no peer may be there then. Each
 * peer's lane says whether it is inside; the host waits for those that are. A peer goes out by a
 * call of FUTEX_WAKE_OP on its own `syscall; ret`, in which the kernel itself writes that it is out
 * and wakes the host, and which returns to its frame.
 *
 * When a batch has run, its thread *parks*: it waits for our death by FUTEX_WAIT, but already on its own instructions
 * (CALL_PARK). There one stop finds it out of the pages, and we may write so before we put it back. If we
 * do not come to that, the wait ends or fails, and returns to a frame with the call above. No frame is restored
 * otherwise, since rt_sigreturn(2) ends what is to be restarted.
 *
 * On the way in, we write that it is coming right before the one ptrace call that sends it: whoever is coming is
 * waited for a second, and if it is not there, the pages stay mapped.
 */
#include "tracee/tracee_priv.h"

#include "arch/lane_abi.h"
#include "base/util.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

#define PEER_CALLS ((LANE_PEER_SIZE - LANE_CALL) / sizeof(struct call) - 1) /* and CALL_PARK */

/* FUTEX_WAKE_OP: set the second word to 0; wake one at the first. */
#define SET_TO_ZERO FUTEX_OP(FUTEX_OP_SET, LANE_OUTSIDE, FUTEX_OP_CMP_EQ, 0)

struct peer {
	struct tracee_thread *th;
	const struct thread_batch *tb;
	struct lane *lane;
	uint64_t remote; /* of the lane */
	int r;
};

struct peers {
	struct tracee *t;
	struct peer peer[MAX_PEERS];
	size_t n;
};

static void set_inside(struct lane *l, uint32_t value)
{
	__atomic_store_n(&l->inside, value, __ATOMIC_SEQ_CST);
}

/* ---- in ---- */

static void leave_args(const struct peer *p, uint64_t arg[6])
{
	uint64_t inside = p->remote + offsetof(struct lane, inside);

	memcpy(arg, (uint64_t[6]){inside, FUTEX_WAKE_OP, 1, 0, inside, SET_TO_ZERO},
	       6 * sizeof(arg[0]));
}

/* Posted before it is in. */
static int open_lane(struct peers *ps, struct peer *p, struct err *err)
{
	const struct inject *in = ps->t->mm_owner->inject;
	struct batch b = p->tb->batch;
	int r = tracee_may_run(p->th, &b, err);

	if (r)
		return r;
	memcpy(p->lane->call, b.call, b.n * sizeof(b.call[0]));
	b.call = p->lane->call;
	b.max = PEER_CALLS + 1;
	BATCH_CALL(&b, CALL_PARK);
	p->lane->leave_gadget = in->gadgets.syscall_ret;
	p->lane->leave_nr = SYS_futex;
	leave_args(p, p->lane->leave_arg);
	return lane_init_posted(p->lane, &b, err);
}

static int enter(struct peers *ps, struct peer *p, struct err *err)
{
	struct arch_regs regs = p->th->regs;
	int r = open_lane(ps, p, err);

	if (r)
		return r;
	arch_enter_loop(&regs, ps->t->mm_owner->inject->map, p->remote, p->th->link_sp);
	set_inside(p->lane, LANE_COMING);
	r = steer_begin(ps->t, p->th, &regs, err);
	if (r == 0 && stop_resume(p->th->tid, PTRACE_CONT, 0))
		r = steer_gone(ps->t, err);
	if (r == 0)
		p->th->where = THREAD_IN_LOOP;
	return r;
}

/* ---- running ---- */

static int finish(struct peers *ps, struct peer *p, struct err *err)
{
	int r = steer_wait_lane(ps->t, p->th, p->lane, err);

	if (r)
		return r;
	for (unsigned i = 0; i < p->tb->batch.n; i++)
		p->tb->batch.call[i].ret = p->lane->call[i].ret;
	return 0;
}

/* ---- out ---- */

static int out_interrupt(struct peers *ps, struct peer *p, struct err *err)
{
	steer_interrupt(p->th);
	return 0;
}

/* Of a stopped one. */
static bool is_parked(const struct peers *ps, const struct peer *p)
{
	const struct inject *in = ps->t->mm_owner->inject;
	struct arch_regs regs;

	return arch_get_regs(p->th->tid, &regs, NULL) == 0 &&
	       arch_program_counter(&regs) - in->map >= in->map_size;
}

/* One that is not parked is sent out. */
static int out_call(struct peers *ps, struct peer *p, struct err *err)
{
	struct arch_regs regs = p->th->regs;
	uint64_t arg[6];
	int r = steer_trapped(ps->t, p->th, err);

	if (r)
		return r;
	if (is_parked(ps, p)) {
		set_inside(p->lane, LANE_OUTSIDE);
		return steer_restore(ps->t, p->th, err);
	}
	leave_args(p, arg);
	arch_setup_call(&regs, &ps->t->mm_owner->inject->gadgets, p->th->frame_sp, SYS_futex, arg);
	r = steer_begin(ps->t, p->th, &regs, err);
	return r ? r : steer_enter(ps->t, p->th, err);
}

static int out_trap(struct peers *ps, struct peer *p, struct err *err)
{
	return p->th->where == THREAD_STOPPED ? 0 : steer_leave_to_trap(ps->t, p->th, err);
}

static int out_restore(struct peers *ps, struct peer *p, struct err *err)
{
	int r = p->th->where == THREAD_STOPPED ? 0 : steer_trapped(ps->t, p->th, err);

	return r || p->th->where == THREAD_STOPPED ? r : steer_restore(ps->t, p->th, err);
}

typedef int peer_fn(struct peers *ps, struct peer *p, struct err *err);

/* One step of all that have got so far; the first error. */
static int each(struct peers *ps, peer_fn *fn, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < ps->n; i++) {
		struct peer *p = &ps->peer[i];

		if (p->r)
			continue;
		p->r = fn(ps, p, ret ? NULL : err);
		ret = ret ? ret : p->r;
	}
	return ret;
}

/* All go out again whatever went wrong; who does not is dead. */
static int leave_all(struct peers *ps, struct err *err)
{
	static peer_fn *const steps[] = {out_interrupt, out_call, out_trap, out_restore};
	int ret = 0;

	for (size_t i = 0; i < ps->n; i++)
		ps->peer[i].r = ps->peer[i].th->where == THREAD_IN_LOOP ? 0 : -ESRCH;
	for (size_t s = 0; s < ARRAY_SIZE(steps); s++) {
		int r = each(ps, steps[s], ret ? NULL : err);

		ret = ret ? ret : r;
	}
	for (size_t i = 0; i < ps->n; i++) {
		struct peer *p = &ps->peer[i];

		set_inside(p->lane, LANE_OUTSIDE);
		lane_retire(p->lane);
		inject_unframe(ps->t, p->th);
	}
	return ret;
}

/* ---- all of it ---- */

static bool can_be_peer(const struct tracee *t, const struct thread_batch *tb)
{
	const struct tracee_thread *th = &t->thread[tb->thread];

	return !tb->batch.overflow && tb->batch.n <= PEER_CALLS && !th->is_exited &&
	       th->where == THREAD_STOPPED; /* stepping says why not */
}

/* 0, or -EBUSY: it has no stack of its own. */
static int add(struct peers *ps, const struct thread_batch *tb, struct err *err)
{
	struct tracee *owner = ps->t->mm_owner;
	size_t at = LANE_PEERS_AT + ps->n * LANE_PEER_SIZE;
	struct peer p = {
		.th = &ps->t->thread[tb->thread],
		.tb = tb,
		.lane = (struct lane *)(owner->mailbox.local + at),
		.remote = owner->mailbox.remote + at,
	};
	struct first_call leave = {.nr = SYS_futex};
	int r;

	leave_args(&p, leave.arg);
	r = inject_own_frame(ps->t, p.th, &leave, err);
	if (r)
		return r;
	ps->peer[ps->n++] = p;
	return 0;
}

static int choose(struct peers *ps, const struct thread_batch *tb, size_t n, bool *done,
		  struct err *err)
{
	for (size_t i = 0; i < n && ps->n < ps->t->mm_owner->inject->npeers; i++) {
		int r = done[i] || !can_be_peer(ps->t, &tb[i]) ? -EBUSY : add(ps, &tb[i], err);

		if (r && r != -EBUSY)
			return r;
		done[i] |= r == 0;
	}
	return 0;
}

/* Runs those batches that can be run in the loop, as many as there are lanes, and marks them. */
static int run_some(struct peers *ps, const struct thread_batch *tb, size_t n, bool *done,
		    struct err *err)
{
	int r, r2;

	ps->n = 0;
	r = choose(ps, tb, n, done, err);
	if (r == 0)
		r = each(ps, enter, err);
	if (r == 0)
		r = each(ps, finish, err);
	r2 = leave_all(ps, r ? NULL : err);
	return r ? r : r2;
}

int tracee_threads_run(struct tracee *t, struct thread_batch *tb, size_t n, struct err *err)
{
	_cleanup_free_ struct peers *ps = calloc(1, sizeof(*ps));
	_cleanup_free_ bool *done = calloc(n + 1, sizeof(*done));
	int r;

	if (!ps || !done)
		return err_nomem(err);
	if (!inject_is_live(t->mm_owner))
		return err_set(err, -EINVAL, "task %d (%s) is not injected", t->pid, t->comm);
	ps->t = t;
	do {
		r = run_some(ps, tb, n, done, err);
	} while (r == 0 && ps->n);
	if (r)
		return err_context(err, "task %d (%s)", t->pid, t->comm);
	/* Who has no stack of its own: places for frames are one thread's at a time. */
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!done[i])
			r = tracee_thread_run(t, tb[i].thread, &tb[i].batch, err);
	return r;
}
