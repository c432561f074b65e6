/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpx_dump_every(): the times at which images are made, their names, and what becomes of those that fail. Waits by
 * ppoll(2) on a pidfd of the root. what goes on between two images is in vigil.c.
 *
 * An image that fails takes nothing from the next one: that has the same name, the same parent, and stores what has
 * changed since that.
 */
#include "engine/every.h"

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/util.h"
#include "engine/result.h"
#include "image/image.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct series {
	const struct cpx_every_options *o;
	struct vigil vigil;
	int pidfd;
	uint64_t started_ns;
	unsigned made;
	unsigned depth; /* images that the last one builds on, itself included */
	char first[PATH_MAX], file[PATH_MAX], parent[PATH_MAX];
};

/* ---- when ---- */

static bool has_ended(const struct series *s)
{
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* One that takes longer leaves out the times that have passed meanwhile. */
static uint64_t next_time(const struct series *s)
{
	uint64_t every = s->o->every_ms * 1000000;

	return s->started_ns + ((monotonic_ns() - s->started_ns) / every + 1) * every;
}

/* Signals come while it waits, not between a look for them and the wait. */
static void wait_until(const struct series *s, uint64_t when_ns)
{
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
	sigset_t caught, old;
	int r = 0;

	sigemptyset(&caught);
	sigaddset(&caught, SIGINT);
	sigaddset(&caught, SIGTERM);
	sigaddset(&caught, SIGHUP);
	sigprocmask(SIG_BLOCK, &caught, &old);
	while (r == 0 && interrupt_check(NULL) == 0) {
		uint64_t now = monotonic_ns(), left = when_ns > now ? when_ns - now : 0;
		struct timespec t = {left / 1000000000, left % 1000000000};

		if (!left)
			break;
		r = ppoll(&p, 1, &t, &old);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* ---- one image ---- */

static int name_file(struct series *s, struct err *err)
{
	int n = s->made ? snprintf(s->file, sizeof(s->file), "%s.%u", s->first, s->made)
			: snprintf(s->file, sizeof(s->file), "%s", s->first);

	return n < (int)sizeof(s->file) ? 0 : err_sys(err, -ENAMETOOLONG, "'%.200s...'", s->first);
}

/* The chain may not get longer: it begins anew. */
static const char *choose_parent(const struct series *s)
{
	if (!s->made)
		return s->o->dump.parent;
	return s->depth < LAYERS_MAX ? s->parent : NULL;
}

static void warn_of_former(const struct series *s)
{
	char file[PATH_MAX + 2];

	snprintf(file, sizeof(file), "%s.1", s->first);
	if (!s->o->dump.parent && access(file, F_OK) == 0)
		log_warn("%s and what follows it are of an earlier run: the image that they build on is replaced",
			 file);
}

static int make_image(struct series *s, struct cpx_result *r)
{
	struct cpx_dump_options o = s->o->dump;
	struct err err = ERR_INIT;
	int ret = name_file(s, &err);

	if (ret < 0)
		return result_set(r, ret, &err, NULL);
	o.output = s->file;
	o.parent = choose_parent(s);
	if (!s->made)
		warn_of_former(s);
	ret = dump_image(&o, s->made > 0, &s->vigil, r);
	if (ret < 0 || r->outcome != CPX_DONE)
		return ret < 0 ? ret : -EIO;
	s->made++;
	s->depth = r->is_delta ? s->depth + 1 : 1;
	strcpy(s->parent, s->file);
	return 0;
}

/* ---- the end ---- */

static void end(const struct series *s, enum cpx_outcome last, struct cpx_result *r)
{
	struct err err = ERR_INIT;

	r->outcome = last;
	r->images = s->made;
	if (s->o->count && s->made >= s->o->count)
		return;
	if (interrupt_check(&err) == 0) {
		snprintf(r->ended, sizeof(r->ended), "task %d has ended", s->o->dump.pid);
		return;
	}
	snprintf(r->ended, sizeof(r->ended), "%.*s", (int)sizeof(r->ended) - 1, err.msg);
	if (!s->o->count)
		return;
	r->outcome = CPX_FAILED;
	snprintf(r->error, sizeof(r->error), "%.200s: %u of %u images were made", err.msg, s->made, s->o->count);
}

/* Whether to go on. What fails because the root has ended, or as a signal has come, is no failure but the end. */
static bool go_on(struct series *s, enum cpx_outcome *last)
{
	struct cpx_result one = CPX_RESULT_INIT;
	bool is_over = make_image(s, &one) < 0 && (has_ended(s) || interrupt_check(NULL) < 0);

	if (!is_over) {
		*last = one.outcome;
		if (s->o->each)
			s->o->each(s->o->data, s->file, &one);
	}
	cpx_result_release(&one);
	return !is_over && !(s->o->count && s->made >= s->o->count);
}

static void run(struct series *s, struct cpx_result *r)
{
	enum cpx_outcome last = CPX_DONE;
	bool goes_on = true;

	while (goes_on) {
		wait_until(s, next_time(s));
		goes_on = !has_ended(s) && interrupt_check(NULL) == 0 && go_on(s, &last);
	}
	end(s, last, r);
}

/* Without it there is nothing to go on from. */
static bool begin(struct series *s, struct cpx_result *r)
{
	if (make_image(s, r) < 0)
		return false;
	if (s->o->each)
		s->o->each(s->o->data, s->file, r);
	return true;
}

static int run_series(struct series *s, struct cpx_result *r)
{
	struct interrupt interrupt;

	interrupt_catch(&interrupt);
	s->started_ns = monotonic_ns();
	if (begin(s, r)) {
		cpx_result_release(r);
		if (s->o->count == 1)
			r->images = 1;
		else
			run(s, r);
	}
	vigil_end(&s->vigil, s->o->dump.pid, s->o->dump.no_children);
	interrupt_release(&interrupt);
	return r->outcome == CPX_DONE ? 0 : r->outcome == CPX_REFUSED ? -ENOTSUP : -EIO;
}

/* Or not there yet. */
static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 || S_ISREG(st.st_mode);
}

int cpx_dump_every(const struct cpx_every_options *o, struct cpx_result *r)
{
	struct series s = {.o = o, .vigil = VIGIL_INIT};
	int ret;

	if (!o->every_ms || o->dump.after != CPX_AFTER_RUN || o->dump.precopy)
		return result_usage(r, "several images are made of a tree that goes on, without pre-copy");
	if (o->dump.output && strlen(o->dump.output) >= sizeof(s.first))
		return result_usage(r, "the name of the output is too long");
	if (o->dump.output)
		strcpy(s.first, o->dump.output);
	else
		snprintf(s.first, sizeof(s.first), "%d.cpx", o->dump.pid);
	if (!is_file(s.first))
		return result_usage(r, "'%.200s': images that others build on are files", s.first);
	s.pidfd = (int)syscall(SYS_pidfd_open, o->dump.pid, 0);
	ret = run_series(&s, r);
	cleanup_close(&s.pidfd);
	return ret;
}
