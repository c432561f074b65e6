/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clones: the nursery, which fills the stock once and forks a coordinator for each, and cpx, which
 * gathers what becomes of them. signalfd(2); messages of unix(7) sockets that keep their bounds.
 *
 * What cannot be built is told and the others go on. ^C and other signals to cpx go to all roots.
 */
#include "engine/clones.h"

#include "base/util.h"
#include "engine/nspace.h"
#include "engine/stock.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

struct one {
	pid_t coordinator; /* 0: not started yet, or reaped */
	int pidfd;	   /* of its root */
	bool is_built, is_over;
};

struct nursery {
	struct restoration *j;
	struct stock stock;
	struct one *one;
	unsigned n, started, building, over;
	int up, sigfd;	  /* to cpx; our signals */
	int down[2];	  /* from all coordinators, who have the second end */
	int stop;	  /* the signal that came; those who are not built yet get it, too */
	sigset_t old_mask;
};

static int block_signals(sigset_t *old, int *ret_fd, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, old);
	*ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return *ret_fd < 0 ? err_sys(err, -errno, "cannot make a signalfd") : 0;
}

/* ---- the nursery: what it tells ---------------------------------------------------------------- */

static void tell(struct nursery *n, const struct report *r)
{
	report_send(n->up, r, -1, NULL);
}

static void is_over(struct nursery *n, struct one *o)
{
	n->building -= o->coordinator && !o->is_built;
	n->over++;
	o->is_over = o->is_built = true;
	if (o->pidfd >= 0)
		close(TAKE_FD(o->pidfd));
}

static void has_failed(struct nursery *n, unsigned id, const struct err *why)
{
	struct report failed = {.what = REPORT_FAILED, .clone = id, .err = *why};

	tell(n, &failed);
	is_over(n, &n->one[id - 1]);
}

static void send_signal(const struct one *o, int signo)
{
	if (o->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, o->pidfd, signo, NULL, 0);
}

static void is_running(struct nursery *n, struct one *o, struct report *r, int pidfd)
{
	o->is_built = true;
	n->building--;
	o->pidfd = pidfd;
	if (pidfd_to_pid(pidfd, &r->pid, NULL) < 0)
		r->pid = 0; /* it has ended already */
	tell(n, r);
	if (n->stop)
		send_signal(o, n->stop);
	if (n->j->o->detach)
		is_over(n, o);
}

/* ---- the nursery: what it hears ---------------------------------------------------------------- */

static void on_report(struct nursery *n, struct report *r, int pidfd)
{
	struct one *o = &n->one[r->clone - 1];

	if (r->what == REPORT_RUNNING && !o->is_built) {
		is_running(n, o, r, pidfd);
		return;
	}
	if (pidfd >= 0)
		close(pidfd);
	if (o->is_over)
		return;
	tell(n, r);
	is_over(n, o);
}

static void hear(struct nursery *n)
{
	struct report r;
	int pidfd = -1;

	while (report_receive(n->down[0], &r, &pidfd, NULL) == 0)
		if (r.clone > 0 && r.clone <= n->started)
			on_report(n, &r, pidfd);
}

static void reap(struct nursery *n)
{
	struct err killed = ERR_INIT;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
		hear(n); /* its last words first */
		for (unsigned i = 0; i < n->started; i++) {
			if (n->one[i].coordinator != pid)
				continue;
			err_set(&killed, -EPIPE, "the init of its PID namespace was killed");
			if (!n->one[i].is_over)
				has_failed(n, i + 1, &killed);
			n->one[i].coordinator = 0;
		}
	}
}

static void on_signals(struct nursery *n)
{
	struct signalfd_siginfo s;

	while (read(n->sigfd, &s, sizeof(s)) == sizeof(s)) {
		if (s.ssi_signo == SIGCHLD)
			continue;
		n->stop = s.ssi_signo == SIGUSR1 || s.ssi_signo == SIGUSR2 ? n->stop : (int)s.ssi_signo;
		for (unsigned i = 0; i < n->started; i++)
			send_signal(&n->one[i], s.ssi_signo);
	}
}

/* ---- the nursery: making them ------------------------------------------------------------------ */

static int be_coordinator(struct nursery *n, unsigned id)
{
	close(n->up);
	close(n->down[0]);
	close(n->sigfd);
	sigprocmask(SIG_SETMASK, &n->old_mask, NULL);
	return clone_coordinate(n->j, id, n->down[1]);
}

static void start_one(struct nursery *n)
{
	struct one *o = &n->one[n->started++];
	struct err why = ERR_INIT;
	pid_t pid;

	o->pidfd = -1;
	if (n->stop) {
		err_set(&why, -EINTR, "signal %d came before", n->stop);
		has_failed(n, n->started, &why);
		return;
	}
	pid = nspace_clone(&n->j->plan);
	if (pid == 0)
		_exit(be_coordinator(n, n->started));
	if (pid < 0) {
		err_sys(&why, -errno, "cannot make a PID namespace");
		has_failed(n, n->started, &why);
		return;
	}
	o->coordinator = pid;
	n->building++;
}

/* More at once would only wait for processors, and have more memory in use. */
static bool may_start(const struct nursery *n)
{
	return n->started < n->n && n->building < 2 * n->j->rt.workers;
}

static void raise_them(struct nursery *n)
{
	struct pollfd p[2] = {{n->sigfd, POLLIN, 0}, {n->down[0], POLLIN, 0}};

	while (n->over < n->n) {
		on_signals(n);
		reap(n);
		hear(n);
		if (may_start(n))
			start_one(n);
		else if (n->over < n->n)
			poll(p, 2, -1);
	}
}

static int prepare(struct nursery *n, struct err *err)
{
	int r;

	if (!report_is_heard(n->up))
		return err_set(err, -EPIPE, "cpx has gone");
	setsid(); /* what the terminal sends is for cpx to pass on */
	if (n->sigfd >= 0)
		close(n->sigfd);
	n->sigfd = -1;
	r = block_signals(&(sigset_t){0}, &n->sigfd, err);
	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, n->down) < 0)
		r = err_sys(err, -errno, "cannot make a socket pair");
	if (r == 0 && fcntl(n->down[0], F_SETFL, O_NONBLOCK) < 0)
		r = err_sys(err, -errno, "cannot set O_NONBLOCK");
	if (r == 0)
		r = stock_fill(&n->j->rt, &n->stock, err);
	return r;
}

static int nursery(void *arg, int channel)
{
	struct nursery *n = arg;
	struct report failed = {.what = REPORT_FAILED};

	n->up = channel;
	if (prepare(n, &failed.err) < 0) {
		tell(n, &failed);
		return 1;
	}
	n->j->rt.image = &n->stock.view[0];
	n->j->rt.stock = &n->stock;
	raise_them(n);
	return 0;
}

/* ---- cpx ---------------------------------------------------------------------------------------- */

static int note(struct cpx_result *result, const struct report *r, unsigned *over, bool detach, struct err *err)
{
	struct cpx_clone *c = r->clone && r->clone <= result->nclones ? &result->clone[r->clone - 1] : NULL;

	if (!c) {
		*err = r->err;
		return r->err.code < 0 ? r->err.code : err_set(err, -EPROTO, "the nursery speaks strangely");
	}
	c->is_restored = r->what != REPORT_FAILED;
	if (r->what == REPORT_RUNNING)
		c->pid = r->pid;
	else if (r->what == REPORT_ENDED)
		c->status = r->status;
	else
		snprintf(c->error, sizeof(c->error), "%.*s", (int)sizeof(c->error) - 1, r->err.msg);
	*over += detach || r->what != REPORT_RUNNING;
	return 0;
}

static void pass_on(int sigfd, pid_t nursery_pid)
{
	struct signalfd_siginfo s;

	while (read(sigfd, &s, sizeof(s)) == sizeof(s))
		if (s.ssi_signo != SIGCHLD)
			kill(nursery_pid, s.ssi_signo);
}

static int gather(struct restoration *j, pid_t pid, int sigfd, int channel, struct err *err)
{
	struct pollfd p[2] = {{sigfd, POLLIN, 0}, {channel, POLLIN, 0}};
	unsigned over = 0;
	int r = 0, no_fd;

	while (over < j->result->nclones && r == 0) {
		struct report report;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(err, -errno, "cannot wait for the clones");
		pass_on(sigfd, pid);
		if (!(p[1].revents & (POLLIN | POLLHUP)))
			continue;
		r = report_receive(channel, &report, &no_fd, err);
		if (r == 0)
			r = note(j->result, &report, &over, j->o->detach, err);
		r = r == -EINTR ? 0 : r;
	}
	return r;
}

static int count_failed(const struct cpx_result *result, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < result->nclones; i++)
		n += !result->clone[i].is_restored;
	return n ? err_set(err, -ECANCELED, "%zu of %zu clones could not be restored", n, result->nclones) : 0;
}

/* A pidfd for each, in the nursery. */
static void raise_limit(unsigned clones)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= l.rlim_max)
		return;
	l.rlim_cur = MIN(l.rlim_max, l.rlim_cur + clones);
	setrlimit(RLIMIT_NOFILE, &l);
}

static int make_directories(const struct restore_ctx *c, struct err *err)
{
	char path[PATH_MAX + 16];

	if (!c->output_dir)
		return 0;
	if (mkdir(c->output_dir, 0777) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "cannot make the directory '%s'", c->output_dir);
	for (unsigned i = 1; i <= c->copies; i++) {
		snprintf(path, sizeof(path), "%s/%u", c->output_dir, i);
		if (mkdir(path, 0777) < 0)
			return err_sys(err, -errno, "cannot make the directory '%s'", path);
	}
	return 0;
}

/* Otherwise there is nothing that could be covered in each clone's own mount namespace. */
static int make_id_file(const char *path, struct err *err)
{
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0444) : -1;

	return path && fd < 0 ? err_sys(err, -errno, "cannot make '%s'", path) : 0;
}

static int run(struct restoration *j, struct nursery *n, struct err *err)
{
	struct plan outer = {.new_user_ns = j->plan.new_user_ns, .new_time_ns = j->plan.new_time_ns,
			     .monotonic_offset_ns = j->plan.monotonic_offset_ns,
			     .boottime_offset_ns = j->plan.boottime_offset_ns};
	_cleanup_close_ int channel = -1;
	pid_t pid;
	int r = nspace_start(&outer, nursery, n, &pid, &channel, err);

	if (r < 0)
		return r;
	r = gather(j, pid, n->sigfd, channel, err);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : count_failed(j->result, err);
}

int clones_restore(struct restoration *j, struct err *err)
{
	struct nursery n = {.j = j, .n = j->o->copies, .sigfd = -1, .down = {-1, -1}};
	int r;

	n.one = calloc(n.n, sizeof(*n.one));
	j->result->clone = calloc(n.n, sizeof(*j->result->clone));
	if (!n.one || !j->result->clone) {
		free(n.one);
		return err_nomem(err);
	}
	j->result->nclones = n.n;
	raise_limit(n.n);
	r = make_directories(&j->rt.ctx, err);
	if (r == 0)
		r = make_id_file(j->o->clone_id_file, err);
	if (r == 0)
		r = block_signals(&n.old_mask, &n.sigfd, err);
	if (r == 0)
		r = run(j, &n, err);
	if (n.sigfd >= 0) {
		close(n.sigfd);
		sigprocmask(SIG_SETMASK, &n.old_mask, NULL);
	}
	free(n.one);
	return r;
}
