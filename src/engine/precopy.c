/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rounds of a pre-copy. The tree is stopped for a moment at the beginning (a userfaultfd is made
 * in each address space), and in each round between protecting pages and reading them: a thread
 * that is in a system call may have it write to pages that the kernel looked up before they were
 * protected (O_DIRECT), and only outside of the kernel it is sure not to.
 *
 * Asynchronous input and output (io_uring, aio, and whatever else pins pages for long, which VmPin
 * of /proc/PID/status counts) writes to pages at any time, unseen: who does that gets a twin. So do
 * tasks of the tree that one has forked from another: what they share is found by comparing what is stored.
 */
#include "engine/precopy.h"

#include "base/interrupt.h"
#include "base/log.h"
#include "engine/session.h"
#include "res/aio.h"
#include "res/preview.h"
#include "res/uring.h"

/* So little is copied in the freeze without being noticed. */
#define FEW_BYTES (256UL << 10)

/* ---- for whom ---- */

static bool has_async_map(int dir)
{
	struct proc_vmas maps = {0};
	bool has = proc_maps(dir, &maps, NULL) < 0;

	for (size_t i = 0; i < maps.n && !has; i++)
		has = uring_is_map(&maps.vma[i]) || aio_is_map(&maps.vma[i]);
	proc_vmas_release(&maps);
	return has;
}

bool precopy_suits(const struct session *s, pid_t pid)
{
	_cleanup_close_ int dir = -1;
	struct proc_status st = {0};
	bool ret = proc_open(s->ctx.proc_fd, pid, 0, &dir, NULL) == 0 &&
		   proc_status(dir, &st, NULL) == 0 && !st.vm_pin && !has_async_map(dir);

	proc_status_release(&st);
	return ret;
}

/* ---- stops ---- */

static int with_tree(struct session *s, int (*fn)(struct session *s, struct tree *t, struct err *err),
		     struct err *err)
{
	struct freeze_options o = {.no_children = s->options->no_children};
	struct tree tree = {0};
	int r = tree_freeze(&tree, s->options->pid, &o, err);

	if (r == 0)
		r = fn(s, &tree, err);
	tree_thaw(&tree, THAW_RUN);
	if (tree.frozen_at_ns)
		s->precopy->stopped_ns = MAX(s->precopy->stopped_ns,
					     tree.thawed_at_ns - tree.frozen_at_ns);
	tree_release(&tree);
	return r;
}

static int watch_task(struct precopy *p, struct tracee *t, struct err *err)
{
	int uffd = -1, r = tracee_inject(t, err);

	if (r == 0)
		r = tracee_watch(t, &uffd, err);
	if (r < 0)
		return r;
	if (grow(&p->track, &p->max, p->n, sizeof(*p->track)) < 0) {
		close(uffd);
		return err_nomem(err);
	}
	r = track_new(t->pid, uffd, (uint32_t)p->n + 1, &p->track[p->n], err);
	if (r == 0)
		p->n++;
	return r;
}

static bool read_stat(const struct session *s, pid_t pid, struct proc_stat *ret)
{
	_cleanup_close_ int dir = -1;

	return proc_open(s->ctx.proc_fd, pid, 0, &dir, NULL) == 0 && proc_stat(dir, ret, NULL) == 0;
}

/* Forked one from the other, without an execve(2) since: the stack has begun at the same place. */
static bool is_forked(const struct session *s, const struct tracee *parent, const struct tracee *t)
{
	struct proc_stat a, b;

	return parent->mm_owner != t->mm_owner && read_stat(s, parent->pid, &a) &&
	       read_stat(s, t->pid, &b) && a.start_stack == b.start_stack &&
	       a.start_code == b.start_code;
}

static bool has_relatives(const struct session *s, const struct tree *tree, const struct tracee *t)
{
	for (size_t i = 0; i < tree->n; i++) {
		const struct tracee *other = tree->task[i];

		if (other->is_zombie || other->mm_owner == t->mm_owner)
			continue;
		if ((other->ppid == t->pid || other->pid == t->ppid) && is_forked(s, other, t))
			return true;
	}
	return false;
}

static int watch_tree(struct session *s, struct tree *tree, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < tree->n && r == 0; i++) {
		struct tracee *t = tree->task[i];

		if (!t->is_zombie && t->mm_owner == t && precopy_suits(s, t->pid) &&
		    !has_relatives(s, tree, t))
			r = watch_task(s->precopy, t, err);
	}
	return r;
}

/* ---- rounds ---- */

static int mark_all(struct precopy *p, uint64_t *ret_bytes, struct err *err)
{
	int r = 0;

	*ret_bytes = 0;
	for (size_t i = 0; i < p->n && r == 0; i++) {
		uint64_t bytes;

		r = track_mark(p->track[i], &bytes, err);
		*ret_bytes += r == 0 ? bytes : 0;
	}
	return r;
}

static void report_round(void *data, uint64_t done_bytes)
{
	const struct session *s = data;
	const struct cpx_progress *p = &s->options->progress;

	if (p->update)
		p->update(p->data, "copying ahead", done_bytes, 0);
}

static int store_all(struct session *s, struct err *err)
{
	struct precopy *p = s->precopy;
	struct pageout out = {
		.w = s->writer,
		.options = &s->format,
		.out_fd = -1,
		.workers = session_workers(s),
		.progress = report_round,
		.progress_data = s,
	};
	int r = 0;

	for (size_t i = 0; i < p->n && r == 0; i++)
		r = track_store(p->track[i], &out, err);
	pageout_release(&out);
	return r;
}

static int watch_new(struct session *s, struct tree *tree, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < s->precopy->n && r == 0; i++)
		r = track_watch_new(s->precopy->track[i], err);
	return r;
}

static int run_round(struct session *s, uint64_t *ret_bytes, struct err *err)
{
	uint64_t started = monotonic_ns();
	int r = mark_all(s->precopy, ret_bytes, err);

	if (r == 0)
		r = with_tree(s, watch_new, err);
	if (r == 0)
		r = store_all(s, err);
	if (r == 0)
		r = interrupt_check(err);
	s->precopy->rounds++;
	log_debug("round %u: %llu bytes in %llu us", s->precopy->rounds,
		  (unsigned long long)*ret_bytes, (unsigned long long)(monotonic_ns() - started) / 1000);
	return r;
}

/* Until the next one would have no less to do. */
static int run_rounds(struct session *s, struct err *err)
{
	uint64_t bytes = UINT64_MAX, before;
	int r = 0;

	do {
		before = bytes;
		if (s->precopy->rounds + 1 >= s->options->precopy)
			break;
		r = run_round(s, &bytes, err);
	} while (r == 0 && bytes > FEW_BYTES && bytes < before / 4 * 3);
	return r;
}

void precopy_end_tracks(struct track **track, size_t n, pid_t root, bool no_children)
{
	struct freeze_options o = {.no_children = no_children};
	struct tree tree = {0};
	struct err err;

	for (size_t i = 0; i < n; i++)
		track_relax(track[i]);
	if (n && tree_freeze(&tree, root, &o, &err) == 0)
		for (size_t i = 0; i < n; i++)
			track_end(track[i]);
	tree_thaw(&tree, THAW_RUN);
	tree_release(&tree);
}

static void forget(struct precopy *p)
{
	precopy_end_tracks(p->track, p->n, p->root, p->no_children);
	while (p->n)
		track_free(p->track[--p->n]);
}

/* A tree that ends, or cannot be stopped, is for the freeze to report. What cannot be written is
 * an error at once. */
static int give_up(struct session *s, int code, const struct err *why, struct err *err)
{
	forget(s->precopy);
	log_info("no pre-copy: %s", why->msg);
	snprintf(s->result->freeze_reason, sizeof(s->result->freeze_reason), "no pre-copy: %.*s",
		 (int)sizeof(s->result->freeze_reason) - 20, why->msg);
	if (code != -EINTR && code != -ENOMEM && code != -ENOSPC && code != -EIO)
		return 0;
	*err = *why;
	return code;
}

int precopy_begin(struct session *s, struct err *err)
{
	struct precopy *p = s->precopy;
	struct err why = ERR_INIT;
	int r;

	if (p->writer) {
		s->format = p->format;
		s->pace = p->pace;
		s->writer = TAKE_PTR(p->writer);
	}
	if (p->is_begun || s->is_exact || !s->options->precopy || s->options->parent || s->job->vigil)
		return 0;
	p->is_begun = true;
	p->root = s->options->pid;
	p->no_children = s->options->no_children;
	r = with_tree(s, watch_tree, &why);
	if (r == 0 && p->n)
		r = session_start_writer(s, &why);
	if (r == 0 && p->n)
		r = run_rounds(s, &why);
	return r < 0 ? give_up(s, r, &why, err) : 0;
}

int precopy_approach(struct session *s, struct err *err)
{
	struct err why = ERR_INIT;
	uint64_t bytes;
	int r = s->precopy->n ? run_round(s, &bytes, &why) : 0;

	return r < 0 ? give_up(s, r, &why, err) : 0;
}

/* ---- frozen ---- */

static bool has_async(const struct session *s, const struct dump_mm *mm)
{
	for (size_t i = 0; i < files_count(&s->ctx); i++)
		if (files_get(&s->ctx, i)->uring)
			return true;
	return mm->msg->n_aio > 0;
}

static struct track *track_of(const struct precopy *p, pid_t pid)
{
	for (size_t i = 0; i < p->n; i++)
		if (track_pid(p->track[i]) == pid)
			return p->track[i];
	return NULL;
}

/* Forked since it is watched, or before. */
static bool has_related_mm(const struct session *s, const struct dump_mm *mm)
{
	for (size_t i = 0; i < s->nmms; i++) {
		const Cpx__Mm *a = s->mm[i].msg, *b = mm->msg;

		if ((a->parent_mm == b->id || b->parent_mm == a->id) &&
		    a->start_stack == b->start_stack && a->start_code == b->start_code)
			return true;
	}
	return false;
}

/* What cannot be taken gets a twin. */
static int take_mm(struct session *s, struct dump_mm *mm, struct err *err)
{
	struct track *t = track_of(s->precopy, mm->owner->pid);
	struct err why = ERR_INIT;
	int r;

	if (!t || has_async(s, mm) || has_related_mm(s, mm))
		return 0;
	r = track_take(t, mm->msg, false, &why);
	if (r == -ENOMEM)
		return err_nomem(err);
	if (r < 0) {
		log_info("task %d (%s): a twin after all: %s", mm->owner->pid, mm->owner->comm,
			 why.msg);
		return 0;
	}
	mm->track = t;
	mm->msg->early = track_early(t);
	return 0;
}

int precopy_take(struct session *s, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < s->nmms && r == 0; i++)
		r = take_mm(s, &s->mm[i], err);
	return r;
}

bool precopy_watches(const void *precopy, pid_t pid, uint64_t start, uint64_t end)
{
	const struct track *t = track_of(precopy, pid);

	return t && track_owns(t, start, end);
}

/* ---- the end ---- */

void precopy_keep(struct precopy *p, struct session *s)
{
	p->format = s->format;
	p->pace = s->pace;
	p->writer = TAKE_PTR(s->writer);
}

void precopy_release(struct precopy *p)
{
	forget(p);
	free(p->track);
	image_writer_free(p->writer);
	*p = (struct precopy)PRECOPY_INIT;
}
