/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Injection: the mailbox comes into a frozen task and goes out again, and nothing stays behind
 * whenever cpx dies.
 *
 *  1. A chain of two signal frames is written below the stack: the first one unmaps the hole, the
 *     second one restores everything.
 *  2. The host thread maps the hole privately, running its own `syscall; ret` on the first frame.
 *  3. Through /proc/PID/mem the loop's code is written there and entered, on the second frame. It
 *     makes and maps the shared lanes and closes the descriptor all by itself; in between we take
 *     the memory and set the lane up. Should we die before that, it finds no ready lane and leaves.
 *  4. From then on the robust futex of the lane tells it of our death.
 *
 * Each phase is done for all tasks before the next, since most of the time is waiting for stops.
 */
#include "tracee/tracee_priv.h"

#include "arch/lane_abi.h"
#include "base/util.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define NLANES 3 /* besides those of peers */

struct saved_bytes {
	uint64_t addr;
	size_t size;
	uint8_t data[];
};

/* ---- preparation ---- */

static int open_task_file(const struct tracee *t, const char *name, int flags, struct err *err)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", t->pid, tracee_live_tid(t), name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? err_sys(err, -errno, "cannot open %s", path) : fd;
}

/* A thread under seccomp could be killed by the first remote call. */
static int check_seccomp(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct proc_status st = {0};
	int r;

	if (th->seccomp >= 0)
		return 0;
	r = proc_open(-1, t->pid, th->tid, &dir, err);
	if (r == 0)
		r = proc_status(dir, &st, err);
	if (r == 0)
		r = tracee_seccomp(t, th, st.seccomp, err);
	proc_status_release(&st);
	return r;
}

static int check_thread(struct tracee *t, struct tracee_thread *th, bool is_host, struct err *err)
{
	int r = th->is_checked ? 0 : check_seccomp(t, th, err);

	if (r == 0 && !th->is_checked)
		r = tracee_dispatches(th, err);
	if (r == 0 && is_host)
		r = tracee_may_host(th, err);
	if (r == 0 && !th->is_checked && arch_has_shadow_stack(th->tid))
		r = err_set(err, -EOPNOTSUPP, "thread %d has a shadow stack", th->tid);
	th->is_checked = r == 0;
	return r;
}

static struct tracee_thread *choose_host(struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (t->thread[i].where == THREAD_STOPPED && !t->thread[i].is_exited)
			return &t->thread[i];
	return NULL;
}

void tracee_know_maps(struct tracee *t, struct proc_vmas *maps)
{
	inject_forget_maps(t);
	t->maps = malloc(sizeof(*t->maps));
	if (!t->maps)
		return; /* they are read again */
	*t->maps = *maps;
	*maps = (struct proc_vmas){0};
}

void inject_forget_maps(struct tracee *t)
{
	if (t->maps)
		proc_vmas_release(t->maps);
	free(t->maps);
	t->maps = NULL;
}

static int take_maps(struct tracee *t, int dir, struct err *err)
{
	if (!t->maps)
		return proc_maps(dir, &t->inject->maps, err);
	t->inject->maps = *t->maps;
	*t->maps = (struct proc_vmas){0};
	inject_forget_maps(t);
	return 0;
}

static int read_task(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	_cleanup_close_ int dir = -1;
	int r = proc_open(-1, t->pid, tracee_live_tid(t), &dir, err);

	if (r == 0)
		r = take_maps(t, dir, err);
	if (r == 0)
		r = gadgets_find(t, &in->gadgets, err);
	if (r == 0) {
		r = open_task_file(t, "mem", O_RDWR, err);
		in->mem_fd = r;
	}
	return r < 0 ? r : 0;
}

int inject_prepare(struct tracee *t, struct err *err)
{
	int r;

	if (t->inject)
		return 0;
	t->inject = calloc(1, sizeof(*t->inject));
	if (!t->inject)
		return err_nomem(err);
	t->inject->mem_fd = t->inject->memfd = -1;
	r = read_task(t, err);
	if (r)
		inject_release(t);
	return r;
}

void inject_release(struct tracee *t)
{
	struct inject *in = t->inject;

	if (!in)
		return;
	proc_vmas_release(&in->maps);
	if (in->mem_fd >= 0)
		close(in->mem_fd);
	if (in->memfd >= 0)
		close(in->memfd);
	free(in);
	t->inject = NULL;
}

/* ---- frames ---- */

static int save(struct inject *in, struct tracee_thread *th, uint64_t addr, size_t size,
		struct err *err)
{
	struct saved_bytes *s = malloc(sizeof(*s) + size);

	if (!s)
		return err_nomem(err);
	s->addr = addr;
	s->size = size;
	if (pread(in->mem_fd, s->data, size, (off_t)addr) != (ssize_t)size) {
		free(s);
		return err_set(err, -EFAULT, "cannot read its stack");
	}
	th->saved = s;
	return 0;
}

void inject_unframe(struct tracee *t, struct tracee_thread *th)
{
	struct saved_bytes *s = th->saved;

	if (s && th->where == THREAD_STOPPED &&
	    pwrite(t->mm_owner->inject->mem_fd, s->data, s->size, (off_t)s->addr) < 0)
		th->where = THREAD_GONE;
	free(s);
	th->saved = NULL;
	th->frame_sp = th->link_sp = 0;
}

/* The frame that restores th and, if `first` is not NULL, the one before it, which goes on with that. */
static int put_frames(struct inject *in, struct tracee_thread *th, uint64_t top,
		      const struct first_call *first, struct err *err)
{
	size_t size = arch_frame_size(th->xstate), link = first ? ARCH_LINK_SIZE : 0, len;
	_cleanup_free_ uint8_t *buf = malloc(ARCH_LINK_SIZE + size);
	struct arch_regs regs = th->regs;
	uint64_t sp;
	int r;

	if (!buf)
		return err_nomem(err);
	r = arch_frame_build(buf + link, size, top, &in->gadgets, &th->regs, th->sigmask, th->xstate,
			     &sp, &len, err);
	if (r)
		return r;
	if (first) {
		arch_setup_call(&regs, &in->gadgets, sp, first->nr, first->arg);
		arch_link_build(buf, top, &in->gadgets, &regs, ~0ULL, th->xstate);
	}
	if (pwrite(in->mem_fd, buf, link + len, (off_t)(sp - link)) != (ssize_t)(link + len))
		return err_sys(err, -errno, "cannot write a signal frame to its stack");
	th->frame_sp = sp;
	th->link_sp = first ? sp - link : 0;
	th->frame_top = top;
	return 0;
}

/*
 * Whose frame lies between the two addresses. The midwife of a cpx that has just been killed has the
 * stack pointer of its host for a moment: were both to get a frame there, and we be killed as well,
 * the host would go on as the midwife, and that is to end.
 */
static const struct tracee_thread *frame_between(const struct tracee *t, uint64_t low, uint64_t high)
{
	for (size_t i = 0; i < t->tree->n; i++)
		for (size_t k = 0; k < t->tree->task[i]->nthreads; k++) {
			const struct tracee_thread *th = &t->tree->task[i]->thread[k];
			uint64_t start = th->link_sp ? th->link_sp : th->frame_sp;

			if (t->tree->task[i]->mm_owner == t->mm_owner && th->frame_sp &&
			    start < high && th->frame_top > low)
				return th;
		}
	return NULL;
}

static int check_alone(const struct tracee *t, const struct tracee_thread *th,
		       const struct site *site, size_t need, struct err *err)
{
	const struct tracee_thread *other = frame_between(t, site->top - need, site->top);

	if (site->is_shared || !other)
		return 0;
	return err_set(err, -EAGAIN,
		       "thread %d is on the stack of thread %d: a cpx that was killed may have left it "
		       "there for a moment; try again",
		       th->tid, other->tid);
}

static int make_frame(struct tracee *t, struct tracee_thread *th, const struct first_call *first,
		      bool must_own, struct err *err)
{
	struct inject *in = t->mm_owner->inject;
	bool is_host = th == in->host;
	size_t need = arch_frame_size(th->xstate) + (first ? ARCH_LINK_SIZE : 0);
	struct site site;
	int r;

	if (th->frame_sp)
		return 0;
	r = check_thread(t, th, is_host, err);
	if (r == 0)
		r = site_find(t, th, need, is_host, &site, err);
	if (r == 0 && must_own && (site.must_save || site.is_shared))
		return -EBUSY;
	if (r == 0)
		r = check_alone(t, th, &site, need, err);
	if (r == 0 && site.must_save)
		r = save(in, th, site.top - need, need, err);
	return r ? r : put_frames(in, th, site.top, first, err);
}

int inject_frame(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	return make_frame(t, th, NULL, false, err);
}

int inject_own_frame(struct tracee *t, struct tracee_thread *th, const struct first_call *first,
		     struct err *err)
{
	return make_frame(t, th, first, true, err);
}

/* Unmaps the hole first. */
static int frame_host(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct first_call unmap = {SYS_munmap, {in->map, in->map_size}};

	return make_frame(t, in->host, &unmap, false, err);
}

/* ---- the way in ---- */

/* From a stop at the exit of a call: undoes a half-made injection. */
static void roll_back(struct tracee *t, int64_t remote_fd)
{
	struct inject *in = t->inject;
	struct tracee_thread *host = in->host;
	int64_t ret;

	if (remote_fd >= 0)
		steer_call(t, host, host->frame_sp, SYS_close, (uint64_t[6]){(uint64_t)remote_fd},
			   &ret, NULL);
	if (in->is_mapped)
		steer_call(t, host, host->frame_sp, SYS_munmap,
			   (uint64_t[6]){in->map, in->map_size}, &ret, NULL);
	in->is_mapped = false;
	steer_end(t, host, NULL);
	inject_unframe(t, host);
}

/* Threads that share this memory, besides the host. */
static size_t count_others(const struct tracee *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->tree->n; i++)
		if (t->tree->task[i]->mm_owner == t && !t->tree->task[i]->is_zombie)
			n += t->tree->task[i]->nthreads;
	return n - 1;
}

static size_t lanes_size(const struct inject *in)
{
	return in->map_size - CPX_PAGE_SIZE;
}

static int in_prepare(struct tracee *t, struct err *err)
{
	struct inject *in;
	int r;

	if (t->is_zombie || t->mm_owner != t)
		return err_set(err, -EINVAL, "has no memory of its own");
	r = inject_prepare(t, err);
	if (r)
		return r;
	in = t->inject;
	in->host = choose_host(t);
	if (!in->host)
		return err_set(err, -ESRCH, "has no stopped thread");
	in->npeers = MIN(count_others(t), (size_t)MAX_PEERS);
	in->map_size = CPX_PAGE_SIZE + NLANES * LANE_SIZE + in->npeers * LANE_PEER_SIZE;
	r = site_hole(&in->maps, in->map_size, &in->map, err);
	return r ? r : frame_host(t, err);
}

static int in_map(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct arch_regs regs = in->host->regs;
	int r;

	arch_setup_call(
		&regs, &in->gadgets, in->host->link_sp, SYS_mmap,
		(uint64_t[6]){in->map, in->map_size, PROT_READ | PROT_EXEC,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE,
			      (uint64_t)-1, 0});
	r = steer_begin(t, in->host, &regs, err);
	return r ? r : steer_enter(t, in->host, err);
}

static int in_leave(struct tracee *t, struct err *err)
{
	return steer_leave(t, t->inject->host, err);
}

static int write_code(struct inject *in, struct err *err)
{
	size_t size;
	const void *code = arch_loop_code(&size);

	if (pwrite(in->mem_fd, code, size, (off_t)in->map) != (ssize_t)size)
		return err_sys(err, -errno, "cannot write code to it");
	return 0;
}

static int in_mapped(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	int64_t ret;
	int r = steer_result(t, in->host, &ret, err);

	if (r)
		return r;
	in->is_mapped = ret == (int64_t)in->map;
	r = in->is_mapped ? write_code(in, err)
			  : err_sys(err, ret < 0 ? (int)ret : -EEXIST, "cannot map memory in it");
	if (r)
		roll_back(t, -1);
	return r;
}

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8 /* Linux 6.3 */
#endif

/* The sysctl vm.memfd_noexec may demand it, older kernels do not know it. */
static unsigned memfd_flags(void)
{
	int fd = memfd_create("cpx", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	if (fd < 0)
		return MFD_CLOEXEC;
	close(fd);
	return MFD_CLOEXEC | MFD_NOEXEC_SEAL;
}

static int in_boot(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct arch_regs regs = in->host->regs;
	int r;

	arch_enter_boot(&regs, &(struct arch_boot){
				       .code = in->map,
				       .map = in->map,
				       .map_size = in->map_size,
				       .lanes = in->map + CPX_PAGE_SIZE,
				       .lanes_size = lanes_size(in),
				       .syscall_ret = in->gadgets.syscall_ret,
				       .sp = in->host->frame_sp,
				       .memfd_flags = memfd_flags(),
			       });
	r = steer_begin(t, in->host, &regs, err);
	return r ? r : steer_enter(t, in->host, err);
}

static int map_lanes(struct tracee *t, int64_t remote_fd, struct err *err)
{
	struct inject *in = t->inject;
	unsigned *users;
	char name[64];
	void *p;

	/* Not pidfd_getfd(2): an exited leader has no descriptors. */
	snprintf(name, sizeof(name), "fd/%d", (int)remote_fd);
	in->memfd = open_task_file(t, name, O_RDWR, err);
	if (in->memfd < 0)
		return in->memfd;
	/* Here and not there: a low RLIMIT_FSIZE of the task would cost it a SIGXFSZ. */
	if (ftruncate(in->memfd, (off_t)lanes_size(in)))
		return err_sys(err, -errno, "cannot size a mailbox");
	users = malloc(sizeof(*users));
	if (!users)
		return err_nomem(err);
	p = mmap(NULL, lanes_size(in), PROT_READ | PROT_WRITE, MAP_SHARED, in->memfd, 0);
	if (p == MAP_FAILED) {
		free(users);
		return err_sys(err, -errno, "cannot map a mailbox");
	}
	*users = 1;
	t->mailbox = (struct mailbox){
		.users = users,
		.local = p,
		.remote = in->map + CPX_PAGE_SIZE,
		.nlanes = NLANES,
		.size = lanes_size(in),
	};
	return 0;
}

static int open_lane(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct lane *l = mailbox_lane(&t->mailbox, 0);
	int r;

	/* Before the lane is ready: from then on its thread leaves by them if we die. */
	l->leave_gadget = in->gadgets.syscall_ret;
	l->leave_nr = SYS_munmap;
	l->leave_arg[0] = in->map;
	l->leave_arg[1] = in->map_size;
	r = lane_init(l, err);
	if (r == 0)
		l->npeers = (uint32_t)in->npeers;
	return r;
}

static void close_lane(struct tracee *t)
{
	if (!t->mailbox.local)
		return;
	lane_retire(mailbox_lane(&t->mailbox, 0));
	mailbox_release(&t->mailbox);
	close(t->inject->memfd);
	t->inject->memfd = -1;
}

static int in_adopt(struct tracee *t, struct err *err)
{
	int64_t fd;
	int r = steer_result(t, t->inject->host, &fd, err);

	if (r)
		return r;
	r = fd < 0 ? err_sys(err, (int)fd, "cannot create a memfd in it") : map_lanes(t, fd, err);
	if (r == 0)
		r = open_lane(t, err);
	if (r == 0)
		r = steer_enter(t, t->inject->host, err);
	if (r) {
		close_lane(t);
		roll_back(t, fd);
	}
	return r;
}

static int in_lanes(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct arch_regs regs;
	int64_t ret;
	int r = steer_result(t, in->host, &ret, err);

	if (r == 0 && ret != (int64_t)t->mailbox.remote) {
		r = err_sys(err, ret < 0 ? (int)ret : -EEXIST, "cannot map memory in it");
		close_lane(t);
		roll_back(t, arch_get_regs(in->host->tid, &regs, NULL)
				     ? -1
				     : (int64_t)arch_syscall_arg(&regs, 4));
	}
	return r;
}

static int in_go(struct tracee *t, struct err *err)
{
	struct batch b = tracee_batch(t);
	int r;

	BATCH_CALL(&b, SYS_prctl, PR_GET_CHILD_SUBREAPER, batch_out(&b, sizeof(int)));
	r = lane_post(mailbox_lane(&t->mailbox, 0), &b, err);
	if (r)
		return r;
	t->inject->host->where = THREAD_IN_LOOP;
	return stop_resume(t->inject->host->tid, PTRACE_CONT, 0) ? steer_gone(t, err) : 0;
}

static int in_loop(struct tracee *t, struct err *err)
{
	struct batch b = tracee_batch(t);
	int r = inject_wait(t, err), value;

	if (r)
		return r;
	memcpy(&value, b.data, sizeof(value));
	t->subreaper = batch_ret(&b, 0) == 0 && value;
	return 0;
}

int tracee_pause(struct tracee *t, struct err *err)
{
	if (!inject_is_live(t))
		return 0;
	steer_interrupt(t->inject->host);
	return steer_trapped(t, t->inject->host, err);
}

int tracee_resume(struct tracee *t, struct err *err)
{
	if (!t->inject || !t->inject->host || t->inject->host->where != THREAD_AWAY)
		return 0;
	if (stop_resume(t->inject->host->tid, PTRACE_CONT, 0))
		return steer_gone(t, err);
	t->inject->host->where = THREAD_IN_LOOP;
	return 0;
}

/* ---- the way out ---- */

static int out_interrupt(struct tracee *t, struct err *err)
{
	/* A midwife shares our pages: it must be gone before they are. */
	if (t->inject->has_midwife && inject_wait(t, NULL) == 0)
		t->inject->has_midwife = false;
	steer_interrupt(t->inject->host);
	return 0;
}

static int out_unmap(struct tracee *t, struct err *err)
{
	struct inject *in = t->inject;
	struct arch_regs regs = in->host->regs;
	int r = steer_trapped(t, in->host, err);

	arch_setup_call(&regs, &in->gadgets, in->host->frame_sp, SYS_munmap,
			(uint64_t[6]){in->map, in->map_size});
	if (r == 0)
		r = steer_begin(t, in->host, &regs, err);
	return r ? r : steer_enter(t, in->host, err);
}

static int out_unmapped(struct tracee *t, struct err *err)
{
	t->inject->is_mapped = false;
	return steer_leave_to_trap(t, t->inject->host, err);
}

static int out_restore(struct tracee *t, struct err *err)
{
	int r = steer_trapped(t, t->inject->host, err);

	return r ? r : steer_restore(t, t->inject->host, err);
}

/* ---- both ---- */

typedef int phase_fn(struct tracee *t, struct err *err);

static phase_fn *const phases_in[] = {in_prepare, in_map,   in_leave, in_mapped, in_boot, in_leave,
				      in_adopt,	  in_leave, in_lanes, in_go,	 in_loop, NULL};
static phase_fn *const phases_out[] = {out_interrupt, out_unmap, out_unmapped, out_restore, NULL};

/* Runs the phases for all chosen tasks abreast. A failed task takes no further part. Returns the
 * first error. */
static int run_phases(phase_fn *const *phase, struct tracee **task, size_t n, struct err *err)
{
	struct err e = ERR_INIT;
	int first = 0, *r = calloc(n + 1, sizeof(*r));

	if (!r)
		return err_nomem(err);
	for (; *phase; phase++) {
		for (size_t i = 0; i < n; i++) {
			if (r[i])
				continue;
			r[i] = (*phase)(task[i], &e);
			if (!r[i] || first)
				continue;
			first = r[i];
			err_set(err, r[i], "task %d (%s): %s", task[i]->pid, task[i]->comm, e.msg);
		}
	}
	free(r);
	return first;
}

bool inject_is_live(const struct tracee *t)
{
	return t->inject && t->inject->host && t->inject->host->where == THREAD_IN_LOOP;
}

static int run_tree(struct tree *tree, phase_fn *const *phases, bool is_in, struct err *err)
{
	_cleanup_free_ struct tracee **task = calloc(tree->n + 1, sizeof(*task));
	size_t n = 0;

	if (!task)
		return err_nomem(err);
	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];

		if (is_in ? !t->is_zombie && t->mm_owner == t && !inject_is_live(t)
			  : inject_is_live(t))
			task[n++] = t;
	}
	return run_phases(phases, task, n, err);
}

static void put_out(struct tracee *t)
{
	if (t->inject->host)
		inject_unframe(t, t->inject->host);
	t->inject->host = NULL;
}

int tracee_inject(struct tracee *t, struct err *err)
{
	return inject_is_live(t) ? 0 : run_phases(phases_in, &t, 1, err);
}

int tracee_inject_all(struct tree *tree, struct err *err)
{
	return run_tree(tree, phases_in, true, err);
}

int tracee_eject(struct tracee *t, struct err *err)
{
	int r = 0;

	if (inject_is_live(t))
		r = run_phases(phases_out, &t, 1, err);
	if (t->inject) {
		close_lane(t);
		put_out(t);
	}
	return r;
}

void inject_eject_all(struct tree *tree)
{
	run_tree(tree, phases_out, false, NULL);
	for (size_t i = 0; i < tree->n; i++)
		if (tree->task[i]->inject)
			put_out(tree->task[i]);
}

void inject_close_all(struct tree *tree)
{
	for (size_t i = 0; i < tree->n; i++)
		if (tree->task[i]->inject)
			close_lane(tree->task[i]);
}
