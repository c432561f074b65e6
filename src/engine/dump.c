/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpx_dump(): the table of stages. Until "thaw" the tree stands still; after it only our copies of
 * records and the twins' copies of memory are used.
 */
#include "base/interrupt.h"
#include "base/log.h"
#include "base/util.h"
#include "engine/every.h"
#include "engine/behind.h"
#include "engine/result.h"
#include "engine/session.h"
#include "engine/twins.h"
#include "res/attr.h"
#include "res/preview.h"

#include <sched.h>
#include <time.h>

/* After one to eight milliseconds each, so as not to meet the same moment of a tree that goes in circles; under
 * a second in all. Under load a moment without such a state may be one of four. */
enum { PASSING_TRIES = 40 };

static int look_ahead(struct session *s, struct err *err)
{
	const struct attr_host *host;
	int ret = attr_host(&s->ctx, &host, err);

	if (ret < 0)
		return ret;
	landlock_prepare(&s->ctx, s->options->pid);
	if (!s->is_exact)
		preview_read(&s->ctx, s->options->pid, s->options->no_children);
	return 0;
}

static bool stays_frozen(const struct session *s)
{
	return s->options->after != CPX_AFTER_RUN;
}

/* ---- while frozen: copies ---- */

static int copy_shared(struct session *s, struct err *err)
{
	return objects_copy(&s->ctx, err);
}

static int copy_aside(struct session *s, struct err *err)
{
	for (size_t i = 0; i < s->nmms; i++) {
		struct dump_mm *mm = &s->mm[i];
		int ret = aside_copy(mm->msg, mm->owner->pid, &mm->aside, err);

		if (ret == 0)
			ret = guards_find(mm->msg, mm->owner->pid, true, err);
		if (ret < 0)
			return err_context(err, "task %d (%s)", mm->owner->pid, mm->owner->comm);
	}
	return 0;
}

static int thaw_early(struct session *s, struct err *err)
{
	bool runs_on = s->is_twinned && !stays_frozen(s);

	if (runs_on)
		tree_thaw(&s->tree, THAW_RUN);
	for (size_t i = 0; i < s->nmms; i++)
		if (s->mm[i].twin)
			twin_make_expendable(s->mm[i].twin);
	if (runs_on)
		behind_begin(s);
	return 0;
}

/* The task that has the memory as it was frozen. */
static pid_t holder(const struct dump_mm *mm)
{
	return mm->twin ? mm->twin->pid : mm->owner->pid;
}

static int find_guards(struct session *s, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < s->nmms && ret == 0; i++)
		if (!s->mm[i].track && !s->mm[i].tracked)
			ret = guards_find(s->mm[i].msg, holder(&s->mm[i]), false, err);
	return ret;
}

/* Before the first twin goes. */
static int end_to_verify(struct session *s, struct err *err)
{
	int ret = preview_verify_end(&s->ctx, err);

	s->must_repeat = ret == -EAGAIN;
	return ret;
}

/* While it is written, if what was written can be taken back. */
static int begin_to_verify(struct session *s, struct err *err)
{
	_cleanup_free_ struct preview_copy *copy = calloc(s->nmms + 1, sizeof(*copy));
	int ret;

	if (!copy)
		return err_nomem(err);
	for (size_t i = 0; i < s->nmms; i++)
		copy[i] = (struct preview_copy){
			.pid = s->mm[i].owner->pid,
			.copy = holder(&s->mm[i]),
			.runs = !dump_mm_needs_twin(&s->mm[i]) && !stays_frozen(s),
		};
	ret = preview_verify_begin(&s->ctx, copy, s->nmms, err);
	return ret < 0 || s->output->is_file ? ret : end_to_verify(s, err);
}

/* ---- writing ---- */

/* Of memory that does not change any more. */
static int identify_files(struct session *s, struct err *err)
{
	_cleanup_free_ struct mapped_view *view = calloc(s->nmms + 1, sizeof(*view));
	size_t n = 0;

	if (!view)
		return err_nomem(err);
	for (size_t i = 0; i < s->nmms; i++)
		if (s->mm[i].twin || !s->is_twinned || stays_frozen(s))
			view[n++] = (struct mapped_view){holder(&s->mm[i]), s->mm[i].msg};
	return files_identify(&s->ctx, view, n, err);
}

static int match_objects(struct session *s, struct err *err)
{
	(void)err;
	if (s->job->delta->parent)
		objects_match(&s->ctx, s->job->delta->parent);
	return 0;
}

static int keep_pace(void *pace, uint64_t position, struct err *err)
{
	return pace_wait(pace, position, err);
}

int session_start_writer(struct session *s, struct err *err)
{
	const struct cpx_dump_options *o = s->options;

	if (s->writer)
		return 0;
	s->format = (struct image_writer_options){.pace = keep_pace, .pace_arg = &s->pace};
	output_format(s->output, o->compress, o->level, &s->format);
	pace_start(&s->pace, o->limit_rate);
	if (s->job->delta->parent)
		memcpy(s->format.parent_id, s->job->delta->parent->id, sizeof(s->format.parent_id));
	return image_writer_new(s->output->fd, &s->format, &s->writer, err);
}

static int write_record(struct session *s, enum record_type type, const ProtobufCMessage *m,
			struct err *err)
{
	return image_write_record(s->writer, type, m, err);
}

static int write_records(struct session *s, struct err *err)
{
	int ret = session_start_writer(s, err);

	if (ret == 0)
		ret = write_record(s, RECORD_IMAGE, &s->info->base, err);
	for (size_t i = 0; i < s->ntasks && ret == 0; i++)
		ret = write_record(s, RECORD_TASK, &s->task[i].msg->base, err);
	for (size_t i = 0; i < s->nmms && ret == 0; i++)
		ret = write_record(s, RECORD_MM, &s->mm[i].msg->base, err);
	for (size_t i = 0; i < objects_count(&s->ctx) && ret == 0; i++)
		ret = write_record(s, RECORD_OBJECT, &objects_get(&s->ctx, i)->base, err);
	for (size_t i = 0; i < files_ntables(&s->ctx) && ret == 0; i++)
		ret = write_record(s, RECORD_FD_TABLE, &files_table(&s->ctx, i)->base, err);
	for (size_t i = 0; i < files_count(&s->ctx) && ret == 0; i++)
		ret = write_record(s, RECORD_FILE, &files_get(&s->ctx, i)->base, err);
	return ret;
}

static int write_objects(struct session *s, struct err *err)
{
	struct object_stats stats;
	int ret = objects_write(&s->ctx, s->writer, s->job->delta->parent, &stats, err);

	s->result->pages = stats.pages;
	s->result->memory_bytes = stats.pages * CPX_PAGE_SIZE;
	s->result->before_pages = stats.unchanged_pages;
	return ret;
}

unsigned session_workers(const struct session *s)
{
	cpu_set_t set;

	if (s->options->workers)
		return s->options->workers;
	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

struct writing {
	struct session *s;
	struct pageout *p;
};

static void report_progress(void *data, uint64_t done_bytes)
{
	const struct writing *w = data;
	const struct cpx_progress *p = &w->s->options->progress;

	behind_step(w->s, w->p);
	if (p->update)
		p->update(p->data, "writing memory", done_bytes, w->s->info->memory_bytes);
}

static int write_memory(struct pageout *p, struct dump_mm *mm, struct err *err)
{
	if (mm->track)
		return track_write(mm->track, p, mm->msg, mm->has_children, err);
	if (mm->tracked)
		return tracked_write(mm->tracked, p, mm->msg, mm->has_children, mm->twin, err);
	if (mm->twin)
		return pageout_twin(p, mm->msg, mm->has_children, mm->twin, err);
	return pageout_frozen(p, mm->msg, mm->has_children, mm->owner->pid, err);
}

static int write_mm(struct session *s, struct pageout *p, struct dump_mm *mm, struct err *err)
{
	int ret = write_memory(p, mm, err);

	if (ret == 0)
		ret = aside_write(mm->aside, p, mm->msg, err);
	if (ret < 0)
		return err_context(err, "task %d (%s)", mm->owner->pid, mm->owner->comm);
	ret = end_to_verify(s, err);
	if (ret < 0)
		return ret;
	twin_free(mm->twin);
	mm->twin = NULL;
	return 0;
}

/* How it was found out what has changed since the parent image. */
static void note_changes(struct session *s)
{
	const struct vigil *w = s->job->vigil;
	size_t tracked = 0, compared = 0;

	for (size_t i = 0; i < s->nmms && s->job->delta->parent; i++) {
		tracked += s->mm[i].tracked != NULL;
		compared += !s->mm[i].tracked && s->mm[i].msg->before_mm;
	}
	s->result->is_delta = s->job->delta->parent;
	strcpy(s->result->changes, tracked && compared ? "both"
				   : tracked	      ? "tracking"
				   : compared	      ? "comparing"
						      : "");
	if (compared && s->job->is_series)
		snprintf(s->result->changes_reason, sizeof(s->result->changes_reason), "%s",
			 w ? w->why_not : "the tree runs in namespaces of its own");
}

/* With a limit: some pieces a second, so that it is kept at any moment. */
static uint64_t group_max(uint64_t rate)
{
	return rate ? MAX(ALIGN_DOWN(rate / 8, CHUNK_MAX), CHUNK_MAX) : 0;
}

static int write_pages(struct session *s, struct err *err)
{
	struct pageout p = {
		.w = s->writer,
		.options = &s->format,
		.before = s->job->delta->parent,
		.out_fd = s->output->is_file && s->format.codec == CODEC_NONE ? s->output->fd : -1,
		.workers = session_workers(s),
		.group_max = group_max(s->options->limit_rate),
		.progress = report_progress,
	};
	struct writing w = {s, &p};
	int ret = 0;

	p.progress_data = &w;
	for (size_t i = 0; i < s->nmms && ret == 0; i++)
		ret = write_mm(s, &p, &s->mm[i], err);
	s->result->pages += p.stats.pages + p.stats.before_pages;
	s->result->zero_pages = p.stats.zero_pages;
	s->result->shared_pages = p.stats.inherited_pages;
	s->result->memory_bytes += p.stats.bytes + p.stats.before_pages * CPX_PAGE_SIZE;
	s->result->rounds = s->precopy->rounds;
	s->result->round_frozen_us = s->precopy->stopped_ns / 1000;
	s->result->before_pages += p.stats.unchanged_pages;
	note_changes(s);
	pageout_release(&p);
	return ret;
}

static int thaw_late(struct session *s, struct err *err)
{
	if (!stays_frozen(s))
		tree_thaw(&s->tree, THAW_RUN);
	return 0;
}

static int seal(struct session *s, struct err *err)
{
	return image_writer_seal(s->writer, &s->result->image_bytes, err);
}

/* Only when the image is safe is anything done to the tree, and nothing may come in between. */
static int commit(struct session *s, struct err *err)
{
	int ret = output_commit(s->output, err);

	if (ret < 0)
		return ret;
	vigil_settle(s);
	if (s->options->after == CPX_AFTER_STOP)
		tree_thaw(&s->tree, THAW_STOP);
	if (s->options->after != CPX_AFTER_KILL)
		return 0;
	session_time(s);
	enter_report(&s->job->plan, 0, s->result);
	tree_thaw(&s->tree, THAW_KILL);
	return 0;
}

static const struct stage dump_stage[] = {
	{"look at the machine", collect_host},
	{"copy ahead", precopy_begin},
	{"watch", vigil_begin},
	{"look ahead", look_ahead},
	{"copy what changed", precopy_approach},
	{"freeze", collect_freeze},
	{"read tasks", collect_tasks},
	{"compare tasks", collect_sharing},
	{"look at who is watched", vigil_check},
	{"read memory maps", collect_memory},
	{"inject", collect_injection},
	{"ask tasks", collect_attributes},
	{"compare with the parent", delta_match},
	{"read semaphores and queues", collect_ipc},
	{"read descriptors", collect_files, .is_last_look = true},
	{"take and put back", collect_borrowed, .is_last_look = true},
	{"copy shared memory", copy_shared},
	{"copy memory aside", copy_aside},
	{"take what changed", precopy_take},
	{"take what is not as before", vigil_take},
	{"make twins", twins_stage},
	{"thaw", thaw_early},
	{"verify memory maps", begin_to_verify},
	{"find guard pages", find_guards},
	{"identify files", identify_files},
	{"match shared memory", match_objects},
	{"write records", write_records},
	{"write shared memory", write_objects},
	{"write memory", write_pages},
	{"thaw", thaw_late},
	{"seal", seal},
	{"commit", commit},
};

static int run(struct session *s, bool is_exact, struct precopy *p, struct job *j,
	       struct cpx_result *r, struct err *err)
{
	int ret = session_init(s, j, r, err);

	s->is_exact = is_exact;
	s->precopy = p;
	s->ctx.is_watched = j->vigil ? vigil_watches : precopy_watches;
	s->ctx.watcher = j->vigil ? (const void *)j->vigil : p;
	if (ret == 0 && !p->writer)
		ret = output_restart(j->output, err);
	if (ret == 0)
		ret = session_run(s, dump_stage, ARRAY_SIZE(dump_stage), err);
	tree_thaw(&s->tree, THAW_RUN);
	return ret;
}

/* Every second time those whose state it is stand before the others, who go on for as long as a loaded
 * machine may need to let them; the other times everybody is stopped at once, should they be waiting
 * for one of those. */
static int stop_first(struct job *j, const struct refusals *l, unsigned tries)
{
	free(j->first);
	j->first = calloc(l->n, sizeof(*j->first));
	j->nfirst = 0;
	j->first_ms = tries;
	for (size_t i = 0; i < l->n && j->first && tries % 2; i++)
		if (l->item[i].pid)
			j->first[j->nfirst++] = l->item[i].pid;
	return j->first ? 0 : -ENOMEM;
}

/* A state in which nobody can look, and which the tree leaves when it runs on, is waited out. */
static bool wait_out(const struct session *s, unsigned *tries)
{
	struct timespec t = {.tv_nsec = 1000000L * (1 + *tries % 8)};

	if (!s->refusals.n || s->refusals.n != s->ctx.npassing || *tries >= PASSING_TRIES ||
	    stop_first(s->job, &s->refusals, ++*tries) < 0)
		return false;
	nanosleep(&t, NULL);
	return true;
}

/* What was stored ahead is good for the next try, unless records follow it already. */
static void start_again(struct session *s, struct precopy *p, struct cpx_result *r)
{
	if (s->must_repeat)
		precopy_release(p);
	else
		precopy_keep(p, s);
	session_release(s);
	cpx_result_release(r);
}

static int dump(void *job, struct cpx_result *r)
{
	struct err err = ERR_INIT;
	bool is_exact = false;
	unsigned tries = 0;
	struct precopy p = PRECOPY_INIT;
	struct session s;
	struct job *j = job;
	int ret;

	/* What this process would watch is gone with it. */
	if (j->plan.flags)
		j->vigil = NULL;
	ret = run(&s, false, &p, j, r, &err);

	while ((s.must_repeat && !is_exact) || wait_out(&s, &tries)) {
		is_exact |= s.must_repeat;
		log_info("once more: %s",
			 s.must_repeat ? err.msg : "what is refused now may be gone in a moment");
		start_again(&s, &p, r);
		err = (struct err)ERR_INIT;
		ret = run(&s, is_exact, &p, j, r, &err);
	}
	ret = result_set(r, ret, &err, &s.refusals);
	session_release(&s);
	precopy_release(&p);
	return ret;
}

/* One of several that cannot build on the one before is a full one. */
static int open_parent(struct job *j, const char *file, struct refusals *refusals, struct err *err)
{
	int r = j->options->parent ? delta_open(j->delta, j->options->parent, file, refusals, err) : 0;
	char text[512];

	if (!j->is_series || (r == 0 && !refusals->n) || r == -ENOMEM)
		return r;
	if (refusals->n)
		refusal_format(&refusals->item[0], text, sizeof(text));
	log_warn("a full image instead of a delta: %s",
		 r < 0 ? err->msg : text);
	delta_release(j->delta);
	refusals_release(refusals);
	*err = (struct err)ERR_INIT;
	return 0;
}

int dump_image(const struct cpx_dump_options *o, bool is_series, struct vigil *w, struct cpx_result *r)
{
	struct err err = ERR_INIT;
	struct output output;
	char name[32];
	struct delta delta = DELTA_INIT;
	struct job j = {
		.options = o,
		.output = &output,
		.delta = &delta,
		.vigil = w,
		.is_series = is_series,
		.plan = ENTER_PLAN_INIT,
	};
	struct refusals refusals = {0};
	const char *file = o->output ? o->output : name;
	int ret;

	snprintf(name, sizeof(name), "%d.cpx", o->pid);
	output = (struct output)OUTPUT_INIT;
	ret = open_parent(&j, file, &refusals, &err);
	if (ret == 0 && !refusals.n)
		ret = output_open(&output, file, o->out_fd, &err);
	ret = ret < 0 || refusals.n ? result_set(r, ret, &err, &refusals) : job_run(&j, dump, r);
	output_release(&output);
	delta_release(&delta);
	refusals_release(&refusals);
	free(j.first);
	return ret;
}

int cpx_dump(const struct cpx_dump_options *o, struct cpx_result *r)
{
	return dump_image(o, false, NULL, r);
}
