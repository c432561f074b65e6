/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns a dump's session: its beginning, the loop over its stages, its end. */
#include "engine/session.h"
#include "base/clock.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/util.h"
#include "engine/result.h"
#include "res/preview.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <time.h>

int session_init(struct session *s, struct job *j, struct cpx_result *r, struct err *err)
{
	const struct cpx_dump_options *o = j->options;

	*s = (struct session){
		.job = j,
		.options = o,
		.result = r,
		.output = j->output,
		.has_own_ipc = j->plan.flags & CLONE_NEWIPC,
		.started_ns = clock_ns(CLOCK_MONOTONIC),
	};
	s->ctx = (struct dump_ctx){
		.tree = &s->tree,
		.refusals = &s->refusals,
		.ghost_limit = o->ghost_limit ? o->ghost_limit : 1ULL << 30,
		.external = &s->external,
		.proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	};
	if (s->ctx.proc_fd < 0)
		return err_sys(err, -errno, "cannot open /proc");
	if (accept_externals(o->external_pipe, o->nexternal_pipes, o->external_unix, &s->external,
			     err) < 0)
		return err->code;
	s->info = msg_new(sizeof(*s->info), (void (*)(void *))cpx__image__init);
	return s->info ? 0 : err_nomem(err);
}

void session_time(struct session *s)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	uint64_t thawed = s->tree.thawed_at_ns ? s->tree.thawed_at_ns : now;

	s->result->wall_us = (now - s->started_ns) / 1000;
	if (s->tree.frozen_at_ns)
		s->result->frozen_us = (thawed - s->tree.frozen_at_ns) / 1000;
}

static void release_records(struct session *s)
{
	for (size_t i = 0; i < s->nmms; i++) {
		twin_free(s->mm[i].twin);
		aside_free(s->mm[i].aside);
		if (s->mm[i].msg)
			cpx__mm__free_unpacked(s->mm[i].msg, NULL);
	}
	free(s->mm);
	for (size_t i = 0; i < s->ntasks; i++)
		if (s->task[i].msg)
			cpx__task__free_unpacked(s->task[i].msg, NULL);
	free(s->task);
	if (s->info)
		cpx__image__free_unpacked(s->info, NULL);
}

void session_release(struct session *s)
{
	tree_thaw(&s->tree, THAW_RUN);
	session_time(s);
	image_writer_free(s->writer);
	release_records(s);
	files_release(&s->ctx);
	objects_release(&s->ctx);
	preview_release(&s->ctx);
	attrs_dump_release(&s->ctx);
	tree_release(&s->tree);
	refusals_release(&s->refusals);
	accept_release(&s->external);
	if (s->ctx.proc_fd >= 0)
		close(s->ctx.proc_fd);
	*s = (struct session){0};
}

int session_run(struct session *s, const struct stage *stage, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t start = clock_ns(CLOCK_MONOTONIC);
		uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
		int ret = interrupt_check(err);

		if (ret == 0)
			ret = stage[i].run(s, err);
		log_debug("%s: %" PRIu64 " us, %" PRIu64 " us of our CPU", stage[i].name,
			  (clock_ns(CLOCK_MONOTONIC) - start) / 1000,
			  (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1000);
		if (ret < 0)
			return ret;
		if (s->refusals.n > 0 && (stage[i].is_last_look || !s->ntasks))
			return 0;
	}
	return 0;
}

int job_run(struct job *j, int (*fn)(void *job, struct cpx_result *r), struct cpx_result *r)
{
	const struct cpx_dump_options *outside = j->options;
	struct cpx_dump_options there = *outside;
	struct interrupt interrupt;
	struct err err = ERR_INIT;
	int ret = enter_plan_make(outside->pid, &j->plan, &err);

	if (ret < 0)
		return result_set(r, ret, &err, NULL);
	there.pid = j->plan.pid;
	j->options = &there;
	interrupt_catch(&interrupt);
	ret = j->plan.flags ? enter_run(&j->plan, fn, j, r, &err) : fn(j, r);
	interrupt_release(&interrupt);
	j->options = outside;
	enter_plan_release(&j->plan);
	return err.code ? result_set(r, ret, &err, NULL) : ret;
}

size_t tracee_speaker(const struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (!t->thread[i].is_exited)
			return i;
	return 0;
}
