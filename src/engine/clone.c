/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One clone: its coordinator, which builds the tree as any restore in a new PID namespace does, but
 * inherits the memory of the root from the nursery. pid_namespaces(7), PR_SET_PDEATHSIG of prctl(2).
 */
#include "engine/clones.h"

#include "base/util.h"
#include "engine/nspace.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int take_place(struct restoration *j, unsigned id, struct err *err)
{
	struct restore_ctx *c = &j->rt.ctx;
	char text[16];
	int r = nspace_mount(&j->plan, err);

	snprintf(text, sizeof(text), "%u\n", id);
	if (r == 0 && j->o->clone_id_file)
		r = nspace_show(j->o->clone_id_file, text, err);
	if (r < 0)
		return r;
	c->clone = id;
	close(c->proc_fd);
	c->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return c->proc_fd < 0 ? err_sys(err, -errno, "cannot open /proc") : 0;
}

/* A clone finds its number in /proc/1/comm, too. */
static void take_name(unsigned id)
{
	char name[16];

	snprintf(name, sizeof(name), "cpx-clone-%u", id);
	prctl(PR_SET_NAME, name);
}

/* In the foreground the clones end with cpx; detached ones are on their own from here on. */
static int let_go(struct restoration *j, int channel, struct err *err)
{
	struct report runs = {.what = REPORT_RUNNING, .clone = j->rt.ctx.clone};
	_cleanup_close_ int pidfd = fcntl(j->rt.task[0]->pidfd, F_DUPFD_CLOEXEC, 0);
	int r = pidfd < 0 ? err_sys(err, -errno, "cannot duplicate the root's pidfd") : 0;

	if (r == 0 && !report_is_heard(channel))
		r = err_set(err, -EPIPE, "cpx has gone");
	if (r == 0 && j->o->detach)
		r = nspace_survive(err);
	if (r < 0) {
		restoration_abort(j);
		return r;
	}
	r = restoration_let_go(j, err);
	if (r == 0 && j->o->clone_signal)
		kill(j->image->info->root_pid, j->o->clone_signal);
	return r < 0 ? r : report_send(channel, &runs, pidfd, err);
}

/* As init. What outlives the root is on its own, as after any restore. */
static void reap_all(pid_t root, unsigned id, int channel)
{
	struct report ended = {.what = REPORT_ENDED, .clone = id};
	pid_t pid;

	while ((pid = waitpid(-1, &ended.status, __WALL)) > 0 || errno == EINTR) {
		if (pid != root)
			continue;
		nspace_survive(NULL);
		report_send(channel, &ended, -1, NULL);
	}
}

int clone_coordinate(struct restoration *j, unsigned id, int channel)
{
	struct report failed = {.what = REPORT_FAILED, .clone = id};
	struct cpx_restore_options o = *j->o;
	int r;

	o.progress.update = NULL; /* many at a time would draw on each other */
	j->rt.progress = NULL;
	j->o = &o;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	take_name(id);
	r = take_place(j, id, &failed.err);
	if (r == 0)
		r = restoration_build(j, &failed.err);
	if (r == 0)
		r = let_go(j, channel, &failed.err);
	if (r < 0) {
		report_send(channel, &failed, -1, NULL);
		return 1;
	}
	restoration_close_all(channel);
	reap_all(j->image->info->root_pid, id, 3);
	return 0;
}
