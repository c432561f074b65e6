/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpx_restore(): reads the image, plans, builds the tree stage by stage, lets it run, and in the
 * foreground stands by as its parent.
 */
#include "cpx.h"

#include "base/util.h"
#include "engine/accept.h"
#include "engine/clones.h"
#include "engine/foreground.h"
#include "engine/hook.h"
#include "engine/host.h"
#include "engine/nspace.h"
#include "engine/parents.h"
#include "engine/restoration.h"
#include "engine/result.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- stages ----------------------------------------------------------------------------------- */

static bool is_any(const struct rtask *t, const void *arg)
{
	return true;
}

static bool is_going_on(const struct rtask *t, const void *arg)
{
	return t->msg->state == CPX__TASK__STATE__RUNNING;
}

static bool is_this(const struct rtask *t, const void *arg)
{
	return t == arg;
}

static int stage_space(struct rtree *rt, struct err *err)
{
	const struct image *im = rt->image;
	size_t lanes = 1;

	/* A stand-in at most for each group and session. */
	for (size_t i = 0; i < im->ntasks; i++)
		lanes += MAX(im->task[i]->n_thread, 1) + 2;
	return space_setup(rt, lanes, err);
}

static int stage_open(struct rtree *rt, struct err *err)
{
	return files_open_all(&rt->ctx, err);
}

static int stage_objects(struct rtree *rt, struct err *err)
{
	int r = objects_create(&rt->ctx, rt->stage, err);

	if (r == 0)
		r = pagein_objects(rt, err);
	return r < 0 ? r : objects_finish(&rt->ctx, err);
}

static int stage_ipc(struct rtree *rt, struct err *err)
{
	return sysvipc_create(&rt->ctx, err);
}

static int stage_fill(struct rtree *rt, struct err *err)
{
	return files_fill(&rt->ctx, err);
}

static int stage_early(struct rtree *rt, struct err *err)
{
	return give_attributes(rt, is_any, NULL, GIVE_EARLY, err);
}

static int stage_terminal(struct rtree *rt, struct err *err)
{
	if (!rt->ctx.detached)
		terminal_hand_over(&rt->ctx);
	return 0;
}

static int stage_settle_objects(struct rtree *rt, struct err *err)
{
	return objects_settle(&rt->ctx, err);
}

static int stage_finish_layout(struct rtree *rt, struct err *err)
{
	_cleanup_free_ struct rtask **owner = calloc(rt->n + 1, sizeof(struct rtask *));
	size_t n = 0;

	if (!owner)
		return err_nomem(err);
	for (size_t i = 0; i < rt->n; i++)
		if (rt->task[i]->msg && rt->task[i]->mm_owner == rt->task[i] &&
		    rt->task[i]->msg->state != CPX__TASK__STATE__ZOMBIE)
			owner[n++] = rt->task[i];
	return layout_finish(rt, owner, n, err);
}

/* From memory and descriptors to the registers, for some of the tasks. */
static int finish(struct rtree *rt, rtask_filter *want, const void *arg, struct err *err)
{
	int r = give_attributes(rt, want, arg, GIVE_MAIN, err);

	if (r == 0)
		r = give_outside(rt, want, arg, err);
	if (r == 0)
		r = give_attributes(rt, want, arg, GIVE_CREDS, err);
	if (r == 0)
		r = give_attributes(rt, want, arg, GIVE_LATE, err);
	return r < 0 ? r : switch_tasks(rt, want, arg, err);
}

/* Stopped tasks first, children before parents: their parents are told of each stop, and what that leaves
 * with them (a SIGCHLD) is cleared when their own signals are set up. */
static int stage_stopped(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = rt->n; i-- > 0 && r == 0;) {
		struct rtask *t = rt->task[i];

		if (!t->msg || t->msg->state != CPX__TASK__STATE__STOPPED)
			continue;
		r = finish(rt, is_this, t, err);
		if (r == 0)
			r = switch_stop(rt, t, err);
	}
	return r;
}

/* Before anybody has its signals: what this leaves in queues is cleared with them. */
static int stage_continued(struct rtree *rt, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (rt->task[i]->msg && rt->task[i]->msg->continued && is_going_on(rt->task[i], NULL))
			r = switch_continue(rt->task[i], err);
	return r;
}

static int stage_running(struct rtree *rt, struct err *err)
{
	return finish(rt, is_going_on, NULL, err);
}

static const struct {
	const char *name;
	int (*run)(struct rtree *rt, struct err *err);
} stages[] = {
	{"addresses", stage_space},
	{"descriptors", stage_open},
	{"shared memory", stage_objects},
	{"terminal", stage_terminal},
	{"semaphores and queues", stage_ipc},
	{"tasks", rtree_grow},
	{"end of the image", pagein_end},
	{"threads", threads_clone},
	{"process groups", family_join_groups},
	{"zombies", family_end_zombies},
	{"missing memory", lazy_hand_over},
	{"early attributes", stage_early},
	{"shared memory", stage_settle_objects},
	{"memory", stage_finish_layout},
	{"rings", give_rings},
	{"descriptors", give_descriptors},
	{"queues", stage_fill},
	{"locks and terminals", give_settle},
	{"continued tasks", stage_continued},
	{"stopped tasks", stage_stopped},
	{"attributes and registers", stage_running},
};

static void progress(struct restoration *j, const char *stage, uint64_t done, uint64_t total)
{
	if (j->o->progress.update)
		j->o->progress.update(j->o->progress.data, stage, done, total);
}

static void memory_progress(void *data, uint64_t done)
{
	struct restoration *j = data;

	progress(j, "memory", done, j->image->info->memory_bytes);
}

static int run_stages(struct restoration *j, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(stages) && r == 0; i++) {
		progress(j, stages[i].name, i, ARRAY_SIZE(stages));
		r = stages[i].run(&j->rt, err);
	}
	return r;
}

/* ---- preparing -------------------------------------------------------------------------------- */

static int open_image(struct restoration *j, int *fd, struct err *err)
{
	const char *input = j->o->input, *name = strcmp(input, "-") ? input : "standard input";
	struct parents parents = {.n = 0};
	int r;

	*fd = strcmp(input, "-") == 0 ? fcntl(j->o->in_fd, F_DUPFD_CLOEXEC, 0) : open(input, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", input);
	r = source_open_fd(&j->source, *fd, err);
	if (r == 0 && j->o->copies && !j->source.is_seekable)
		r = image_spool(&j->source, NULL, 0, err); /* clones read some of it again and again */
	if (r == 0)
		r = parents_init(&parents, input, &j->o->parents, err);
	if (r == 0)
		r = image_open(&j->source, &parents.finder, &j->image, err);
	parents_release(&parents);
	if (r == -ENOLINK)
		return refuse(&j->refusals, 0, NULL, name, "%s", err->msg);
	return r < 0 ? err_context(err, "%s", name), r : 0;
}

static int open_terminal(const struct cpx_restore_options *o)
{
	int fd;

	if (o->detach || o->output_dir)
		return -1;
	fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	return fd < 0 && isatty(0) ? fcntl(0, F_DUPFD_CLOEXEC, 3) : fd;
}

/* As of `cpx restore FILE &`. */
static bool is_in_background(int tty_fd)
{
	pid_t group = tty_fd < 0 ? -1 : tcgetpgrp(tty_fd);

	return group > 0 && group != getpgrp();
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : CPU_COUNT(&set);
}

/* Everything that is ours dies with us, and filters do not apply before we let go. */
static long trace_options(const struct image *im)
{
	long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;

	return image_seccomp_filter(im, 1) ? options | PTRACE_O_SUSPEND_SECCOMP : options;
}

static void setup_tree(struct restoration *j)
{
	struct restore_ctx *c = &j->rt.ctx;
	const Cpx__Image *info = j->image->info;

	c->image = j->image;
	c->refusals = &j->refusals;
	c->new_pid_ns = j->plan.new_pid_ns;
	c->in_user_ns = j->plan.new_user_ns;
	c->new_ipc_ns = j->plan.new_ipc_ns;
	c->new_devpts = j->plan.new_devpts;
	c->is_privileged = geteuid() == 0 && !j->plan.new_user_ns;
	c->detached = j->o->detach || j->o->copies;
	c->copies = j->o->copies;
	c->output_dir = j->output_dir;
	if (j->o->copies)
		c->in_background = true; /* the terminal is nobody's of them */
	c->external = &j->external;
	c->allow_changed = j->o->allow_changed;
	c->nallow_changed = j->o->nallow_changed;
	c->shared_file = j->o->shared_file;
	c->nshared_files = j->o->nshared_files;
	c->input_fd = strcmp(j->o->input, "-") == 0 ? j->o->in_fd : -1;
	c->fd_base = files_fd_base(j->image);
	j->rt.image = j->image;
	j->rt.stream = j->source.is_seekable ? NULL : j->image;
	j->rt.trace_options = trace_options(j->image);
	j->rt.external_sid = info->external_sid;
	j->rt.external_pgid = info->external_pgid;
	j->rt.workers = j->o->workers ? j->o->workers : count_cpus();
	j->rt.progress = memory_progress;
	j->rt.progress_data = j;
}

static int find_output_dir(struct restoration *j, struct err *err)
{
	const char *dir = j->o->output_dir;
	_cleanup_free_ char *cwd = NULL;

	if (!dir)
		return 0;
	cwd = *dir == '/' ? strdup("") : getcwd(NULL, 0);
	if (!cwd)
		return err_sys(err, -errno, "cannot find out the working directory");
	return asprintf(&j->output_dir, "%s%s%s", cwd, *cwd ? "/" : "", dir) < 0 ? err_nomem(err) : 0;
}

static int prepare(struct restoration *j, struct err *err)
{
	int r = host_check(j->image->info->host, &j->refusals, err);

	if (r == 0)
		r = find_output_dir(j, err);

	if (r == 0)
		r = plan_make(j->image, j->o, &j->plan, &j->refusals, err);
	if (r < 0)
		return r;
	setup_tree(j);
	j->rt.ctx.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->rt.ctx.proc_fd < 0)
		return err_sys(err, -errno, "cannot open /proc");
	r = plan_raise_nofile(&j->rt.ctx, err);
	if (r == 0 && j->o->lazy)
		r = lazy_check(!j->source.is_seekable, j->plan.new_user_ns, &j->refusals, err);
	return r < 0 ? r : plan_check_resources(&j->rt.ctx, err);
}

/* The server of what comes later is made before all else: so it has nothing of the tree's. */
static int prepare_lazy(struct restoration *j, struct err *err)
{
	if (!j->o->lazy)
		return 0;
	if (j->o->copies)
		return err_set(err, -EINVAL, "copies are not filled lazily: they share their memory");
	j->rt.lazy = &j->lazy;
	return lazy_start(&j->lazy, j->image, strcmp(j->o->input, "-") ? j->o->input : "standard input",
			  !j->o->detach, err);
}

/* ---- building, in the coordinator ------------------------------------------------------------ */

static void forget(struct restoration *j)
{
	attrs_restore_release(&j->rt.ctx);
	sysvipc_release(&j->rt.ctx, false);
	files_close_all(&j->rt.ctx);
	objects_close_all(&j->rt.ctx);
	rtree_release(&j->rt);
	lazy_release(&j->lazy);
}

void restoration_abort(struct restoration *j)
{
	rtree_abort(&j->rt);
	sysvipc_release(&j->rt.ctx, false);
}

int restoration_build(struct restoration *j, struct err *err)
{
	pid_t root = j->image->info->root_pid;
	int r;

	/* Files with capabilities make us undumpable, and so the tasks that we fork untouchable. */
	prctl(PR_SET_DUMPABLE, 1);
	terminal_save(j->rt.ctx.tty_fd, &j->terminal);
	r = run_stages(j, err);
	if (r == 0 && j->o->on_restore)
		r = hook_run(j->o->on_restore, j->rt.ctx.clone, root, err);
	if (r < 0) {
		restoration_abort(j);
		terminal_restore(j->rt.ctx.tty_fd, &j->terminal);
	}
	return r;
}

int restoration_let_go(struct restoration *j, struct err *err)
{
	int r = lazy_commit(&j->lazy, err);

	if (r == 0)
		r = switch_release(&j->rt, is_going_on, NULL, err);
	if (r < 0)
		rtree_abort(&j->rt);
	else
		terminal_tell_size(&j->rt.ctx);
	sysvipc_release(&j->rt.ctx, r == 0);
	forget(j);
	return r;
}

/* ---- here: no namespace is needed ------------------------------------------------------------- */

static int write_pidfile(const char *path, pid_t pid, struct err *err)
{
	_cleanup_fclose_ FILE *f = NULL;

	if (!path)
		return 0;
	f = fopen(path, "we");
	if (!f || fprintf(f, "%d\n", pid) < 0 || fflush(f) != 0)
		return err_sys(err, -errno, "cannot write the PID file '%s'", path);
	return 0;
}

static int stand_by(struct restoration *j, pid_t root, struct err *err)
{
	struct foreground f = {.root = root, .tty_fd = j->rt.ctx.tty_fd, .terminal = &j->terminal};

	return foreground_wait(&f, &j->result->status, err);
}

static int restore_here(struct restoration *j, struct err *err)
{
	pid_t root = j->image->info->root_pid;
	int r = restoration_build(j, err);

	if (r == 0 && (r = write_pidfile(j->o->pidfile, root, err)) < 0)
		rtree_abort(&j->rt);
	if (r < 0) {
		forget(j);
		return r;
	}
	r = restoration_let_go(j, err);
	j->result->pid = root;
	return r < 0 || j->o->detach ? r : stand_by(j, root, err);
}

/* ---- in namespaces: the coordinator's side ----------------------------------------------------- */

void restoration_close_all(int channel)
{
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd < 3 && null >= 0; fd++)
		dup2(null, fd);
	dup2(channel, 3);
	close_range(4, ~0U, 0);
}

static void tell_status(int channel, int status)
{
	struct report r = {.what = WIFSTOPPED(status) ? REPORT_STOPPED : REPORT_ENDED, .status = status};

	report_send(channel, &r, -1, NULL);
}

/* As init: reaps everybody; ends with the last. */
static void reap_all(pid_t root, int channel)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL | WUNTRACED)) > 0 || errno == EINTR)
		if (pid == root)
			tell_status(channel, status);
}

static int build_inside(struct restoration *j, int channel, struct err *err)
{
	struct report running = {.what = REPORT_RUNNING};
	int r;

	close(j->rt.ctx.proc_fd);
	j->rt.ctx.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (j->o->detach)
		setsid();
	r = restoration_build(j, err);
	if (r == 0)
		r = report_send(channel, &running, j->rt.task[0]->pidfd, err);
	return r;
}

/* The user's cpx answers with a byte when it has noted the PID: only then does the tree run. */
static int await_consent(struct restoration *j, int channel, struct err *err)
{
	char byte;

	if (recv(channel, &byte, 1, 0) == 1)
		return nspace_survive(err);
	restoration_abort(j);
	return err_set(err, -EPIPE, "cpx has gone");
}

static int coordinator(void *arg, int channel)
{
	struct restoration *j = arg;
	struct err err = ERR_INIT;
	pid_t root = j->image->info->root_pid;
	struct report failed = {.what = REPORT_FAILED}, goes_on = {.what = REPORT_RUNNING};

	/* What is told last: that the end of cpx is not ours any more. */
	if (build_inside(j, channel, &err) < 0 || await_consent(j, channel, &err) < 0 ||
	    restoration_let_go(j, &err) < 0 || report_send(channel, &goes_on, -1, &err) < 0) {
		failed.err = err;
		report_send(channel, &failed, -1, NULL);
		return 1;
	}
	restoration_close_all(channel);
	reap_all(root, 3);
	return 0;
}

/* ---- in namespaces: the user's side ------------------------------------------------------------ */

static int await_running(int channel, int *ret_pidfd, struct err *err)
{
	struct report r;
	int ret;

	while ((ret = report_receive(channel, &r, ret_pidfd, err)) == -EINTR)
		;
	if (ret == 0 && r.what == REPORT_FAILED) {
		*err = r.err;
		return err->code;
	}
	return ret;
}

static int note_root(struct restoration *j, int channel, int pidfd, struct err *err)
{
	int r = pidfd_to_pid(pidfd, &j->result->pid, err);

	if (r == 0)
		r = write_pidfile(j->o->pidfile, j->result->pid, err);
	if (r == 0 && send(channel, "", 1, MSG_NOSIGNAL) != 1)
		r = err_set(err, -EPIPE, "the coordinator ended unexpectedly");
	return r;
}

static int stand_by_outside(struct restoration *j, pid_t coordinator_pid, int channel, int pidfd,
			    struct err *err)
{
	struct foreground f = {.root = j->result->pid, .root_pidfd = pidfd, .channel = channel,
			       .coordinator = coordinator_pid, .tty_fd = j->rt.ctx.tty_fd,
			       .terminal = &j->terminal};

	return foreground_wait(&f, &j->result->status, err);
}

static int restore_inside(struct restoration *j, struct err *err)
{
	_cleanup_close_ int channel = -1;
	_cleanup_close_ int pidfd = -1;
	_cleanup_close_ int no_fd = -1;
	pid_t pid;
	int r;

	terminal_save(j->rt.ctx.tty_fd, &j->terminal);
	if (!j->o->detach)
		terminal_hand_over(&j->rt.ctx);
	r = nspace_start(&j->plan, coordinator, j, &pid, &channel, err);
	lazy_release(&j->lazy); /* the coordinator's now */
	if (r == 0)
		r = await_running(channel, &pidfd, err);
	if (r == 0)
		r = note_root(j, channel, pidfd, err);
	if (r == 0)
		r = await_running(channel, &no_fd, err);
	if (r == 0 && !j->o->detach)
		return stand_by_outside(j, pid, channel, pidfd, err);
	if (r < 0 && channel >= 0) {
		TAKE_FD(channel) >= 0 ? close(channel) : 0;
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return r;
}

/* ---- the function ------------------------------------------------------------------------------ */

static int restore(struct restoration *j, struct err *err)
{
	const struct plan *p = &j->plan;
	int r = accept_externals(j->o->external_pipe, j->o->nexternal_pipes, false, &j->external, err);

	if (r == 0)
		r = prepare(j, err);

	if (r == 0 && !j->refusals.n)
		r = prepare_lazy(j, err);
	if (r < 0 || j->refusals.n)
		return r;
	j->result->tasks = j->image->info->tasks;
	j->result->threads = j->image->info->threads;
	j->result->memory_bytes = j->image->info->memory_bytes;
	j->result->new_pid_namespace = p->new_pid_ns;
	j->result->new_user_namespace = p->new_user_ns;
	j->result->new_time_namespace = p->new_time_ns;
	if (j->o->copies)
		return clones_restore(j, err);
	return p->new_pid_ns || p->new_time_ns ? restore_inside(j, err) : restore_here(j, err);
}

int cpx_restore(const struct cpx_restore_options *o, struct cpx_result *r)
{
	struct restoration j = {.o = o, .result = r, .lazy = {.channel = -1}};
	_cleanup_close_ int fd = -1;
	struct err err = ERR_INIT;
	int ret;

	j.rt.ctx.tty_fd = open_terminal(o);
	j.rt.ctx.in_background = is_in_background(j.rt.ctx.tty_fd);
	j.rt.ctx.proc_fd = -1;
	ret = open_image(&j, &fd, &err);
	if (ret == 0 && !j.refusals.n)
		ret = restore(&j, &err);
	ret = result_set(r, ret, &err, &j.refusals);
	lazy_release(&j.lazy);
	attrs_restore_release(&j.rt.ctx);
	free(j.output_dir);
	image_free(j.image);
	source_release(&j.source);
	refusals_release(&j.refusals);
	accept_release(&j.external);
	if (j.rt.ctx.tty_fd >= 0)
		close(j.rt.ctx.tty_fd);
	if (j.rt.ctx.proc_fd >= 0)
		close(j.rt.ctx.proc_fd);
	return ret;
}
