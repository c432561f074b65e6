/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Seccomp: the filters of threads, and what may be run in spite of them. Reads
 * PTRACE_SECCOMP_GET_FILTER and PTRACE_SECCOMP_GET_METADATA; suspends filters by
 * PTRACE_O_SUSPEND_SECCOMP (all three need CAP_SYS_ADMIN).
 *
 * A suspended filter is back the instant we die (kernel/ptrace.c, __ptrace_unlink), and whatever
 * the thread was about to do for us meets it: the rest of a batch, and the way out of the mailbox.
 * So a call is only made if the filter itself, evaluated beforehand, would not kill for it; that it
 * would answer with an error does no harm, but for those calls of the way out on which it depends.
 */
#include "tracee/filter.h"
#include "tracee/tracee_priv.h"

#include "base/insist.h"
#include "base/kabi.h"
#include "base/util.h"

#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum verdict { NOT_KNOWN, ALLOWED, DENIED, DEADLY };

struct filter_pool {
	struct seccomp_filter **filter;
	size_t n, max;
};

void filter_pool_free(struct filter_pool *p)
{
	for (size_t i = 0; p && i < p->n; i++)
		free(p->filter[i]);
	if (p)
		free(p->filter);
	free(p);
}

/* ---- what they answer ---- */

static enum verdict verdict_of(uint32_t answer)
{
	if ((int32_t)answer >= (int32_t)SECCOMP_RET_LOG)
		return ALLOWED;
	return (int32_t)answer >= (int32_t)SECCOMP_RET_ERRNO ? DENIED : DEADLY;
}

static enum verdict evaluate(const struct seccomp_filter *f, const struct filter_call *c)
{
	uint32_t worst = SECCOMP_RET_ALLOW;

	for (; f; f = f->parent)
		worst = filter_worse(worst, filter_worst(f->insn, f->n, c));
	return verdict_of(worst);
}

/* Whatever its arguments are. */
static enum verdict evaluate_any(struct seccomp_filter *f, uint64_t nr)
{
	const struct filter_call c = {.nr = nr};

	if (nr >= sizeof(f->verdict))
		return evaluate(f, &c);
	if (f->verdict[nr] == NOT_KNOWN)
		f->verdict[nr] = evaluate(f, &c);
	return f->verdict[nr];
}

/* seccomp(2), SECCOMP_SET_MODE_STRICT. */
static enum verdict evaluate_strict(uint64_t nr)
{
	return nr == SYS_read || nr == SYS_write || nr == SYS_exit || nr == SYS_rt_sigreturn
		       ? ALLOWED
		       : DEADLY;
}

static enum verdict evaluate_call(const struct tracee_thread *th, const struct filter_call *c,
				  enum verdict wanted)
{
	if (th->seccomp <= 0)
		return ALLOWED;
	if (th->seccomp == SECCOMP_MODE_STRICT)
		return evaluate_strict(c->nr);
	if (evaluate_any(th->filter, c->nr) <= wanted)
		return wanted;
	return evaluate(th->filter, c);
}

/* ---- what may be run ---- */

static const struct {
	uint64_t nr;
	const char *name;
} call_name[] = {
	{SYS_brk, "brk"},
	{SYS_clone, "clone"},
	{SYS_close, "close"},
	{SYS_futex, "futex"},
	{SYS_get_robust_list, "get_robust_list"},
	{SYS_getitimer, "getitimer"},
	{SYS_lseek, "lseek"},
	{SYS_madvise, "madvise"},
	{SYS_memfd_create, "memfd_create"},
	{SYS_mmap, "mmap"},
	{SYS_munmap, "munmap"},
	{SYS_personality, "personality"},
	{SYS_prctl, "prctl"},
	{SYS_rt_sigaction, "rt_sigaction"},
	{SYS_rt_sigreturn, "rt_sigreturn"},
	{SYS_sigaltstack, "sigaltstack"},
	{SYS_timer_getoverrun, "timer_getoverrun"},
	{SYS_timer_gettime, "timer_gettime"},
	{SYS_wait4, "wait4"},
	{SYS_waitid, "waitid"},
	{ARCH_NR_MODIFY_LDT, "modify_ldt"},
};

static int forbidden(const struct tracee_thread *th, uint64_t nr, const char *what, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "system call %u", (unsigned)nr);
	for (size_t i = 0; i < ARRAY_SIZE(call_name); i++)
		if (call_name[i].nr == nr)
			snprintf(name, sizeof(name), "%s(2)", call_name[i].name);
	return err_set(err, -EOPNOTSUPP, "thread %d %s %s, which cpx needs %s", th->tid,
		       th->seccomp == SECCOMP_MODE_STRICT ? "is in strict mode, which kills for"
							  : "has a filter that forbids",
		       name, what);
}

/* The frame, and the futexes of the loop and of the way out of it. */
static int check_way_out(const struct tracee_thread *th, struct err *err)
{
	static const uint64_t needed[] = {SYS_rt_sigreturn, SYS_futex, SYS_munmap};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const struct filter_call c = {.nr = needed[i]};

		if (evaluate_call(th, &c, ALLOWED) != ALLOWED)
			return forbidden(th, c.nr, "to leave it safely", err);
	}
	return 0;
}

int tracee_may_host(const struct tracee_thread *th, struct err *err)
{
	static const struct filter_call needed[] = {
		{SYS_mmap, {0, 0, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS}, 0x4},
		{SYS_mmap, {0, 0, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED}, 0xc},
		{SYS_memfd_create, {0}, 0},
		{SYS_lseek, {0, 0, SEEK_END}, 0x4},
		{SYS_getpid, {0}, 0},
	};
	const struct filter_call close_call = {.nr = SYS_close};

	if (evaluate_call(th, &close_call, ALLOWED) != ALLOWED)
		return forbidden(th, SYS_close, "to leave no descriptor behind", err);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (evaluate_call(th, &needed[i], DENIED) == DEADLY)
			return forbidden(th, needed[i].nr, "to enter it", err);
	return 0;
}

static bool is_of_loop(uint64_t nr)
{
	return nr == CALL_ZERO_SCAN || nr == CALL_LDT_SCAN || nr == CALL_HASH;
}

int tracee_may_run(const struct tracee_thread *th, const struct batch *b, struct err *err)
{
	for (unsigned i = 0; i < b->n && th->seccomp > 0; i++) {
		struct filter_call c = {.nr = b->call[i].nr, .known = FILTER_ALL_KNOWN};

		memcpy(c.arg, b->call[i].arg, sizeof(c.arg));
		if (!is_of_loop(c.nr) && evaluate_call(th, &c, DENIED) == DEADLY)
			return forbidden(th, c.nr, "to ask it for its state", err);
	}
	return 0;
}

bool tracee_may_call(const struct tracee_thread *th, uint64_t nr)
{
	const struct filter_call c = {.nr = nr};

	return evaluate_call(th, &c, DENIED) != DEADLY;
}

/* All that a midwife and a twin do. */
int seccomp_may_have_twin(const struct tracee_thread *th, struct err *err)
{
	static const struct filter_call needed[] = {
		{SYS_clone, {0}, 0x1},
		{SYS_clone,
		 {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM},
		 0x1},
		{SYS_exit, {0}, 0},
		{SYS_exit_group, {0}, 0},
		{SYS_setsid, {0}, 0},
		{SYS_close_range, {0}, 0},
		{SYS_prctl, {PR_SET_NAME}, 0x1},
		{SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0}, 0x7},
		{SYS_recvmsg, {0}, 0},
		{SYS_close, {0}, 0},
		{SYS_prlimit64, {0, RLIMIT_FSIZE}, 0x3},
		{SYS_mprotect, {0, 0, PROT_READ}, 0x4},
		{SYS_pwritev, {0}, 0},
		{SYS_madvise, {0, 0, MADV_DONTNEED}, 0x4},
		{SYS_futex, {0}, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (evaluate_call(th, &needed[i], ALLOWED) != ALLOWED)
			return forbidden(th, needed[i].nr, "in a copy of it", err);
	return 0;
}

int seccomp_may_advise(const struct tracee_thread *th, int advice, struct err *err)
{
	const struct filter_call c = {SYS_madvise, {0, 0, (uint64_t)advice}, 0x4};

	return evaluate_call(th, &c, ALLOWED) == ALLOWED
		       ? 0
		       : forbidden(th, SYS_madvise, "to have all memory in a copy of it", err);
}

/* ---- reading ---- */

static bool is_same(const struct seccomp_filter *a, const struct seccomp_filter *b)
{
	return a->parent == b->parent && a->is_logged == b->is_logged && a->n == b->n &&
	       !memcmp(a->insn, b->insn, a->n * sizeof(a->insn[0]));
}

/* Takes f, or frees it where its like is known. */
static int pool_add(struct tree *tree, struct seccomp_filter *f, struct seccomp_filter **ret,
		    struct err *err)
{
	struct filter_pool *p = tree->filters;

	if (!p)
		p = tree->filters = calloc(1, sizeof(*p));
	for (size_t i = 0; p && i < p->n; i++)
		if (is_same(p->filter[i], f)) {
			free(f);
			*ret = p->filter[i];
			return 0;
		}
	if (!p || grow(&p->filter, &p->max, p->n, sizeof(p->filter[0]))) {
		free(f);
		return err_nomem(err);
	}
	p->filter[p->n++] = f;
	f->id = (uint32_t)p->n;
	*ret = f;
	return 0;
}

static int explain(int code, struct err *err)
{
	if (prctl(PR_GET_SECCOMP) > 0)
		return err_set(err, -EACCES,
			       "cpx itself runs under seccomp, and may not read filters");
	if (code == -EACCES || code == -EPERM)
		return err_set(err, -EACCES, "only root (cap_sys_admin) may read its filters");
	if (code == -EMEDIUMTYPE)
		return err_set(err, -EOPNOTSUPP, "its filter is of a kind that cannot be read");
	return err_sys(err, code == -ESRCH ? code : -EOPNOTSUPP, "its filters cannot be read");
}

static int read_flags(pid_t tid, uint64_t index, struct seccomp_filter *f, struct err *err)
{
	struct kabi_seccomp_metadata m = {.filter_off = index};

	if (ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_METADATA, tid, (void *)sizeof(m), &m) <
	    0)
		return explain(-errno, err);
	f->is_logged = m.flags & SECCOMP_FILTER_FLAG_LOG;
	return 0;
}

/* Filter number index, 0 being the oldest. -ENOENT after the last. */
static int read_filter(struct tracee *t, struct tracee_thread *th, uint64_t index, struct err *err)
{
	_cleanup_free_ struct seccomp_filter *f = NULL;
	long n = ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_FILTER, th->tid, (void *)index,
			NULL);
	int r;

	if (n < 0 && errno == ENOENT)
		return -ENOENT;
	if (n < 0)
		return explain(-errno, err);
	f = calloc(1, sizeof(*f) + (size_t)n * sizeof(f->insn[0]));
	if (!f)
		return err_nomem(err);
	f->parent = th->filter;
	f->n = (size_t)n;
	if (ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_FILTER, th->tid, (void *)index,
		   f->insn) != n)
		return explain(-errno, err);
	r = read_flags(th->tid, index, f, err);
	if (r == 0 && filter_can_notify(f->insn, f->n))
		r = err_set(
			err, -EOPNOTSUPP,
			"a filter of thread %d asks another process (SECCOMP_RET_USER_NOTIF) or "
			"computes its answers",
			th->tid);
	return r ? r : pool_add(t->tree, TAKE_PTR(f), &th->filter, err);
}

static int read_filters(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	uint64_t i = 0;
	int r;

	th->filter = NULL;
	do
		r = read_filter(t, th, i++, err);
	while (r == 0);
	if (r == -ENOENT && !th->filter)
		return err_set(err, -EOPNOTSUPP, "thread %d shows no filter", th->tid);
	return r == -ENOENT ? 0 : r;
}

static int suspend(const struct tracee_thread *th, struct err *err)
{
	int r = ptrace_insist(PTRACE_SETOPTIONS, th->tid, NULL,
			      (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP));

	return r ? explain(r, err) : 0;
}

#define ERESTARTSYS	      512
#define ERESTART_RESTARTBLOCK 516

/* A stop makes the kernel go on with a sleep by restart_syscall(2), which a filter that does not
 * know of stops may forbid. Such a sleep begins anew. */
static int avoid_restart(struct tracee_thread *th, struct err *err)
{
	const struct filter_call c = {.nr = SYS_restart_syscall};

	if (arch_restart_code(&th->regs) != -ERESTART_RESTARTBLOCK ||
	    evaluate_call(th, &c, ALLOWED) == ALLOWED)
		return 0;
	arch_set_restart_code(&th->regs, -ERESTARTSYS);
	th->asleep_ns = 0;
	return arch_set_regs(th->tid, &th->regs, err);
}

int tracee_seccomp(struct tracee *t, struct tracee_thread *th, int mode, struct err *err)
{
	int r = 0;

	if (mode == SECCOMP_MODE_FILTER)
		r = read_filters(t, th, err);
	if (r)
		return r;
	th->seccomp = mode;
	r = avoid_restart(th, err);
	if (r == 0 && mode)
		r = check_way_out(th, err);
	if (r == 0 && mode)
		r = suspend(th, err);
	if (r)
		th->seccomp = -1;
	return r;
}

/* ---- system call user dispatch ---- */

/* Signals for calls made outside of the exempt range depend on a byte of the task's, which stays as
 * it is while all of it stands still. */
int tracee_dispatches(const struct tracee_thread *th, struct err *err)
{
	struct kabi_sud_config conf = {0};
	uint8_t selector;
	struct iovec local = {&selector, 1}, remote;

	/* Before 6.4 nobody can ask. */
	if (ptrace((enum __ptrace_request)KABI_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, th->tid,
		   (void *)sizeof(conf), &conf) < 0 ||
	    !conf.mode)
		return 0;
	remote = (struct iovec){(void *)(uintptr_t)conf.selector, 1};
	if (conf.selector && process_vm_readv(th->tid, &local, 1, &remote, 1, 0) == 1 &&
	    selector == SYSCALL_DISPATCH_FILTER_ALLOW)
		return 0;
	return err_set(err, -EBUSY,
		       "the system calls of thread %d are signals at this moment "
		       "(PR_SET_SYSCALL_USER_DISPATCH); try again",
		       th->tid);
}
