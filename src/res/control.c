/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Controls of a thread over its processor and its kernel: speculation (PR_SET_SPECULATION_CTRL),
 * the faulting of cpuid, what happens on broken memory (PR_MCE_KILL), PR_SET_IO_FLUSHER, system
 * call user dispatch. Asks the PR_GET_* calls; dispatch is read and set from outside
 * (PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4), since the calls of a thread that has it may
 * be signals: src/tracee refuses it while its selector says so.
 *
 * Not kept: PR_SET_IO_FLUSHER of a thread that has no CAP_SYS_RESOURCE any more and may not ask;
 * core scheduling.
 */
#include "res/attr.h"

#include "base/kabi.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

enum { NSPECULATIONS = 3 }; /* PR_SPEC_STORE_BYPASS ... */

/* ---- system call user dispatch ---- */

static int read_dispatch(const struct tracee_thread *thread, Cpx__Thread *th, struct err *err)
{
	struct kabi_sud_config conf = {0};

	/* Before 6.4 nobody can ask. */
	if (ptrace((enum __ptrace_request)KABI_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, thread->tid,
		   (void *)sizeof(conf), &conf) < 0 ||
	    !conf.mode)
		return 0;
	th->dispatch = MSG_NEW(Cpx__Dispatch, cpx__dispatch__init);
	if (!th->dispatch)
		return err_nomem(err);
	th->dispatch->mode = conf.mode;
	th->dispatch->selector = conf.selector;
	th->dispatch->offset = conf.offset;
	th->dispatch->len = conf.len;
	return 0;
}

/* Where the range is the one that is not exempt (PR_SYS_DISPATCH_INCLUSIVE_ON, Linux 6.17), the
 * kernel keeps what lies around it, which wraps and which it does not take back like that
 * (kernel/entry/syscall_user_dispatch.c). */
static void unwrap(struct kabi_sud_config *c)
{
	if (!c->offset || c->offset + c->len > c->offset)
		return;
	c->mode = KABI_SYS_DISPATCH_INCLUSIVE_ON;
	c->offset += c->len;
	c->len = -c->len;
}

static int control_finish(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			  pid_t tid, struct err *err)
{
	struct kabi_sud_config conf;

	if (!th->dispatch)
		return 0;
	conf = (struct kabi_sud_config){
		.mode = th->dispatch->mode,
		.selector = th->dispatch->selector,
		.offset = th->dispatch->offset,
		.len = th->dispatch->len,
	};
	unwrap(&conf);
	if (ptrace((enum __ptrace_request)KABI_PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, tid,
		   (void *)sizeof(conf), &conf) < 0)
		return err_sys(err, -errno, "cannot set system call user dispatch");
	return 0;
}

/* ---- dump ---- */

enum { ASK_MCE, ASK_FLUSHER, ASK_CPUID, ASK_SPECULATION };

static int control_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	return read_dispatch(thread, th, err);
}

static int control_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		       const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[ASK_MCE] = BATCH_CALL(b, SYS_prctl, PR_MCE_KILL_GET);
	scratch[ASK_FLUSHER] = BATCH_CALL(b, SYS_prctl, PR_GET_IO_FLUSHER);
	scratch[ASK_CPUID] = BATCH_CALL(b, ARCH_NR_PRCTL, ARCH_PRCTL_GET_CPUID);
	for (unsigned i = 0; i < NSPECULATIONS; i++)
		scratch[ASK_SPECULATION + i] = BATCH_CALL(b, SYS_prctl, PR_GET_SPECULATION_CTRL, i);
	return 0;
}

/* Not as in a new thread: of most kinds that is enabled, of the flushing of caches disabled. */
static bool is_special(unsigned kind, int64_t state)
{
	return (kind == PR_SPEC_L1D_FLUSH) == !!(state & PR_SPEC_ENABLE);
}

/* A byte for each kind, 0: it cannot be controlled, or was not. */
static uint32_t pack_speculation(const struct batch *b, const uint64_t *scratch)
{
	uint32_t ret = 0;

	for (unsigned i = 0; i < NSPECULATIONS; i++) {
		int64_t state = batch_ret(b, scratch[ASK_SPECULATION + i]);

		if (state > 0 && state & PR_SPEC_PRCTL && is_special(i, state))
			ret |= (uint32_t)(state & 0x1e) << 8 * i;
	}
	return ret;
}

static int control_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	int64_t mce = batch_ret(b, scratch[ASK_MCE]);

	/* PR_MCE_KILL_LATE is 0, _EARLY 1, _DEFAULT 2. */
	th->flags->mce_kill = mce == PR_MCE_KILL_LATE || mce == PR_MCE_KILL_EARLY ? mce + 1 : 0;
	th->flags->io_flusher = batch_ret(b, scratch[ASK_FLUSHER]) == 1;
	th->flags->cpuid_faults = batch_ret(b, scratch[ASK_CPUID]) == 0;
	th->flags->speculation = pack_speculation(b, scratch);
	return 0;
}

/* ---- restore ---- */

static unsigned wanted_speculation(const Cpx__ThreadFlags *f, unsigned i)
{
	return f->speculation >> 8 * i & 0xff;
}

static int own_speculation(unsigned kind)
{
	return prctl(PR_GET_SPECULATION_CTRL, kind, 0, 0, 0);
}

static bool can_be_told(unsigned kind)
{
	int own = own_speculation(kind);

	return own >= 0 && own & PR_SPEC_PRCTL;
}

/* Or this machine is so for everybody, or has nothing to fear. */
static bool can_be_had(unsigned kind)
{
	int own = own_speculation(kind);

	return can_be_told(kind) || own == PR_SPEC_NOT_AFFECTED ||
	       (own > 0 && is_special(kind, own));
}

static int control_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
			 struct err *err)
{
	const Cpx__ThreadFlags *f = th->flags;
	int r = 0;

	for (unsigned i = 0; f && i < NSPECULATIONS && r == 0; i++)
		if (wanted_speculation(f, i) && !can_be_had(i))
			r = attr_refuse_restore(
				c, task, "speculation control", err,
				"cannot be restored: thread %u has set one (number %u) that this "
				"machine does not offer",
				th->tid, i);
	if (r == 0 && f && f->io_flusher && !attr_can_globally(c, CAP_SYS_RESOURCE))
		r = attr_refuse_restore(c, task, "PR_SET_IO_FLUSHER", err,
					"cannot be restored: it needs cap_sys_resource");
	if (r == 0 && f && f->cpuid_faults && syscall(ARCH_NR_PRCTL, ARCH_PRCTL_SET_CPUID, 1) < 0)
		r = attr_refuse_restore(c, task, "cpuid", err,
					"cannot be restored: this machine cannot make it fault");
	return r;
}

static void give_speculation(const Cpx__ThreadFlags *f, struct batch *b)
{
	for (unsigned i = 0; i < NSPECULATIONS; i++)
		if (wanted_speculation(f, i) && can_be_told(i))
			BATCH_CALL(b, SYS_prctl, PR_SET_SPECULATION_CTRL, i,
				   wanted_speculation(f, i));
}

static int control_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const Cpx__ThreadFlags *f = th->flags;

	if (!f)
		return 0;
	if (stage == GIVE_MAIN && f->mce_kill)
		BATCH_CALL(b, SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET, f->mce_kill - 1);
	if (stage == GIVE_MAIN && f->io_flusher)
		BATCH_CALL(b, SYS_prctl, PR_SET_IO_FLUSHER, 1);
	if (stage == GIVE_LATE && f->cpuid_faults)
		BATCH_CALL(b, ARCH_NR_PRCTL, ARCH_PRCTL_SET_CPUID, 0);
	if (stage == GIVE_LATE)
		give_speculation(f, b);
	return 0;
}

const struct attr_ops control_attr_ops = {
	.name = "controls of the thread",
	.per_thread = true,
	.read = control_read,
	.ask = control_ask,
	.take = control_take,
	.check = control_check,
	.give = control_give,
	.finish = control_finish,
};
