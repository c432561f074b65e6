/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Landlock (landlock(7)): whether a thread is under its rules, which nobody can read and which
 * therefore are refused. No file tells; but such a thread may not look at processes outside of its
 * domain (security/landlock/task.c). So it is made to compare itself by kcmp(2) with a witness: a
 * process of ours with its user and group, with no capability and nothing to hide, at which
 * everybody else of that user may look (ptrace(2), "Ptrace access mode checking").
 *
 * A witness takes longer to make than anything else that a small dump waits for. So a thread that
 * seems to be allowed to look at cpx is asked about cpx first: if it may, it is under no rules that cpx
 * is not under as well. Only if it may not, which can have many reasons, there is a witness.
 *
 * The witness is a program of a few bytes in a memfd: it has none of our memory. Where there can be
 * none (another user's threads, without the capability to become him), or another security module
 * may have its own opinion, nothing is found out.
 */
#include "res/attr.h"

#include "base/log.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10
#endif
#define KCMP_VM 1

struct witness {
	uint32_t uid, gid;
	pid_t pid; /* 0: there can be none */
};

/* What cpx itself is, which stays as it is while it dumps. */
struct own {
	pid_t pid; /* 0: not read yet */
	uid_t uid[3];
	gid_t gid[3];
	uint64_t permitted;
};

struct witnesses {
	struct own own;
	struct witness *witness;
	size_t n, max;
	pid_t *doubtful; /* threads that may not look at cpx */
	size_t ndoubtful, maxdoubtful;
};

static struct witnesses *witnesses_of(struct dump_ctx *c)
{
	if (!c->witnesses)
		c->witnesses = calloc(1, sizeof(*c->witnesses));
	return c->witnesses;
}

/* ---- witnesses ---- */

enum { LOAD_AT = 0x400000 };

static int write_program(int fd)
{
	size_t size;
	const void *code = arch_idle_code(&size);
	struct {
		Elf64_Ehdr head;
		Elf64_Phdr load;
	} elf = {
		.head = {.e_ident = ELFMAG,
			 .e_type = ET_EXEC,
			 .e_machine = ARCH_ELF_MACHINE,
			 .e_version = EV_CURRENT,
			 .e_entry = LOAD_AT + sizeof(elf),
			 .e_phoff = sizeof(elf.head),
			 .e_ehsize = sizeof(elf.head),
			 .e_phentsize = sizeof(elf.load),
			 .e_phnum = 1},
		.load = {.p_type = PT_LOAD,
			 .p_flags = PF_R | PF_X,
			 .p_vaddr = LOAD_AT,
			 .p_filesz = sizeof(elf) + size,
			 .p_memsz = sizeof(elf) + size,
			 .p_align = CPX_PAGE_SIZE},
	};

	elf.head.e_ident[EI_CLASS] = ELFCLASS64;
	elf.head.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.head.e_ident[EI_VERSION] = EV_CURRENT;
	return pwrite(fd, &elf, sizeof(elf), 0) == sizeof(elf) &&
			       pwrite(fd, code, size, sizeof(elf)) == (ssize_t)size
		       ? 0
		       : -EIO;
}

static int open_program(void)
{
	_cleanup_close_ int fd = memfd_create("cpx-witness", MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0) /* before Linux 6.3 */
		fd = memfd_create("cpx-witness", MFD_CLOEXEC);
	return fd >= 0 && write_program(fd) == 0 ? TAKE_FD(fd) : -1;
}

static bool become(uint32_t uid, uint32_t gid)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	if ((getgid() != gid || getegid() != gid) && setresgid(gid, gid, gid) < 0)
		return false;
	if ((getuid() != uid || geteuid() != uid) &&
	    (setgroups(0, NULL) < 0 || setresuid(uid, uid, uid) < 0))
		return false;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &head, none) == 0;
}

/* In the child. Our death is its own; a change of credentials would have made it forget that. */
static _Noreturn void testify(int program, int ready, pid_t parent, uint32_t uid, uint32_t gid)
{
	char *const nothing[] = {NULL};

	if (become(uid, gid) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
	    close_range(0, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		syscall(SYS_execveat, program, "", nothing, nothing, AT_EMPTY_PATH);
	_exit(write(ready, "", 1) == 1);
}

/* If it may not be killed it ends with us. */
static void end_witness(pid_t pid)
{
	if (pid <= 0 || kill(pid, SIGKILL) < 0)
		return;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The end of the pipe without a byte: it has become that program. */
static pid_t await_witness(pid_t pid, int ready)
{
	char byte;
	ssize_t n;

	while ((n = read(ready, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n == 0)
		return pid;
	end_witness(pid);
	return 0;
}

static pid_t start_witness(uint32_t uid, uint32_t gid)
{
	_cleanup_close_ int program = open_program();
	int ready[2];
	pid_t parent = getpid(), pid;

	if (program < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return 0;
	pid = fork();
	if (pid == 0)
		testify(program, ready[1], parent, uid, gid);
	close(ready[1]);
	pid = pid < 0 ? 0 : await_witness(pid, ready[0]);
	close(ready[0]);
	log_debug("witness for user %u, group %u: %d", uid, gid, pid);
	return pid;
}

/* 0: there can be none. */
static pid_t witness_for(struct dump_ctx *c, uint32_t uid, uint32_t gid)
{
	struct witnesses *ws = witnesses_of(c);

	for (size_t i = 0; ws && i < ws->n; i++)
		if (ws->witness[i].uid == uid && ws->witness[i].gid == gid)
			return ws->witness[i].pid;
	if (!ws || grow(&ws->witness, &ws->max, ws->n, sizeof(*ws->witness)) < 0)
		return 0;
	ws->witness[ws->n] = (struct witness){uid, gid, start_witness(uid, gid)};
	return ws->witness[ws->n++].pid;
}

void landlock_release(struct dump_ctx *c)
{
	struct witnesses *ws = c->witnesses;

	for (size_t i = 0; ws && i < ws->n; i++)
		end_witness(ws->witness[i].pid);
	if (ws) {
		free(ws->witness);
		free(ws->doubtful);
	}
	free(ws);
	c->witnesses = NULL;
}

/* ---- cpx as the witness ---- */

static uint64_t own_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return ~0ULL;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

/* NULL: nothing is known. */
static const struct own *own_of(struct dump_ctx *c)
{
	struct witnesses *ws = witnesses_of(c);
	struct own *o = ws ? &ws->own : NULL;

	if (!o || o->pid)
		return o;
	if (getresuid(&o->uid[0], &o->uid[1], &o->uid[2]) < 0 ||
	    getresgid(&o->gid[0], &o->gid[1], &o->gid[2]) < 0)
		return NULL;
	o->permitted = own_capabilities();
	o->pid = getpid();
	return o;
}

/* Our own PID if such a thread may look at us, as far as is easily seen, else 0. */
static pid_t our_like(struct dump_ctx *c, uint32_t uid, uint32_t gid, uint64_t permitted)
{
	const struct own *o = own_of(c);

	if (!o || o->permitted & ~permitted)
		return 0;
	for (int i = 0; i < 3; i++)
		if (o->uid[i] != uid || o->gid[i] != gid)
			return 0;
	return o->pid;
}

void landlock_prepare(struct dump_ctx *c, pid_t pid)
{
	_cleanup_close_ int dir = -1;
	struct proc_status st = {0};

	if (proc_open(c->proc_fd, pid, 0, &dir, NULL) == 0 && proc_status(dir, &st, NULL) == 0 &&
	    !our_like(c, st.uid[0], st.gid[0], st.cap_prm))
		witness_for(c, st.uid[0], st.gid[0]);
	proc_status_release(&st);
}

static int doubt(struct dump_ctx *c, pid_t tid, struct err *err)
{
	struct witnesses *ws = witnesses_of(c);

	if (!ws || grow(&ws->doubtful, &ws->maxdoubtful, ws->ndoubtful, sizeof(*ws->doubtful)) < 0)
		return err_nomem(err);
	ws->doubtful[ws->ndoubtful++] = tid;
	return 0;
}

static bool is_doubtful(const struct dump_ctx *c, pid_t tid)
{
	for (size_t i = 0; c->witnesses && i < c->witnesses->ndoubtful; i++)
		if (c->witnesses->doubtful[i] == tid)
			return true;
	return false;
}

/* ---- threads ---- */

/* scratch[0]: the call + 1; [1]: is it about us? */
static int landlock_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
			const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const Cpx__Creds *cr = th->creds;
	pid_t witness;

	if (!cr || !lsm_is_like_us(c->proc_fd, th) ||
	    !tracee_may_call(attr_thread(t, th), SYS_kcmp))
		return 0;
	witness = our_like(c, cr->uid, cr->gid, cr->cap_permitted);
	scratch[1] = witness != 0;
	if (!witness)
		witness = witness_for(c, cr->uid, cr->gid);
	if (witness)
		scratch[0] = 1 + BATCH_CALL(b, SYS_kcmp, th->tid, witness, KCMP_VM);
	return 0;
}

static int refuse_rules(struct dump_ctx *c, const struct tracee *t, uint32_t tid, struct err *err)
{
	return attr_refuse(
		c, t, "landlock", err,
		"cannot be checkpointed: thread %u is under rules of Landlock, which cannot "
		"be read",
		tid);
}

static int landlock_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
			 const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	if (!scratch[0] || batch_ret(b, scratch[0] - 1) != -EPERM)
		return 0;
	return scratch[1] ? doubt(c, th->tid, err) : refuse_rules(c, t, th->tid, err);
}

/* Whoever may not look at us is asked about a true witness. */
static int landlock_reread(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
			   Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	struct batch b = tracee_batch(t);
	pid_t witness;
	int r;

	if (!is_doubtful(c, thread->tid))
		return 0;
	witness = witness_for(c, th->creds->uid, th->creds->gid);
	if (!witness)
		return 0;
	BATCH_CALL(&b, SYS_kcmp, th->tid, witness, KCMP_VM);
	r = tracee_thread_run(t, (size_t)(thread - t->thread), &b, err);
	return r < 0 || batch_ret(&b, 0) != -EPERM ? r : refuse_rules(c, t, th->tid, err);
}

const struct attr_ops landlock_attr_ops = {
	.name = "landlock",
	.per_thread = true,
	.ask = landlock_ask,
	.take = landlock_take,
	.reread = landlock_reread,
};
