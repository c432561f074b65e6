/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is watched, from one image of a tree to the next. Tasks that are new are stopped for a moment, to be given a
 * userfaultfd that we hold; from then on nothing of cpx is with them but the protection of their pages.
 *
 * What changes memory without a write that the kernel would see: asynchronous input and output into pages
 * that it has looked up before (io_uring, aio, whatever VmPin of /proc/PID/status counts). Who does
 * that at the time of one image is compared for the next. All system calls are over when a task is frozen, so that
 * no O_DIRECT is under way; but another process may be in the middle of process_vm_writev(2) into it.
 */
#include "engine/vigil.h"

#include "base/log.h"
#include "base/util.h"
#include "engine/session.h"
#include "res/attr.h"

/* ---- who ---- */

static struct tracked *tracked_of(const struct vigil *w, pid_t pid)
{
	for (size_t i = 0; i < w->n; i++)
		if (tracked_pid(w->item[i]) == pid)
			return w->item[i];
	return NULL;
}

static bool is_hopeless(const struct vigil *w, pid_t pid)
{
	for (size_t i = 0; i < w->nhopeless; i++)
		if (w->hopeless[i] == pid)
			return true;
	return false;
}

static void note_why(struct vigil *w, const struct err *why)
{
	if (!w->why_not[0])
		snprintf(w->why_not, sizeof(w->why_not), "%.*s", (int)sizeof(w->why_not) - 1, why->msg);
}

static void give_up(struct vigil *w, const struct tracee *t, const struct err *why)
{
	log_info("not watched: %s", why->msg);
	note_why(w, why);
	if (grow(&w->hopeless, &w->max_hopeless, w->nhopeless, sizeof(*w->hopeless)) == 0)
		w->hopeless[w->nhopeless++] = t->pid;
}

static int watch_task(struct vigil *w, struct tracee *t, struct err *err)
{
	int uffd = -1, r = tracee_inject(t, err);

	if (r == 0)
		r = tracee_watch(t, &uffd, err);
	if (r < 0)
		return r;
	if (grow(&w->item, &w->max, w->n, sizeof(struct tracked *)) < 0) {
		close(uffd);
		return err_nomem(err);
	}
	r = tracked_new(t->pid, uffd, &w->item[w->n], err);
	w->n += r == 0;
	return r;
}

static void set_async(struct err *why, const struct tracee *t)
{
	err_set(why, -EBUSY, "task %d (%s): its memory may be written to unseen (io_uring, aio, pinned pages)",
		t->pid, t->comm);
}

static int watch_tree(struct session *s, struct tree *tree, struct err *err)
{
	struct vigil *w = s->job->vigil;

	for (size_t i = 0; i < tree->n; i++) {
		struct tracee *t = tree->task[i];
		struct err why = ERR_INIT;

		if (t->is_zombie || t->mm_owner != t || tracked_of(w, t->pid) || is_hopeless(w, t->pid))
			continue;
		if (!precopy_suits(s, t->pid))
			set_async(&why, t);
		else if (watch_task(w, t, &why) == -ENOMEM)
			return err_nomem(err);
		if (why.code)
			give_up(w, t, &why);
	}
	return 0;
}

/* A tree that cannot be stopped is for the freeze to report. */
static int watch_more(struct session *s, struct err *err)
{
	struct freeze_options o = {.no_children = s->options->no_children};
	struct tree tree = {0};
	int r = 0;

	s->job->vigil->wants_more = false;
	if (tree_freeze(&tree, s->options->pid, &o, NULL) == 0)
		r = watch_tree(s, &tree, err);
	tree_thaw(&tree, THAW_RUN);
	tree_release(&tree);
	return r;
}

int vigil_begin(struct session *s, struct err *err)
{
	struct vigil *w = s->job->vigil;
	int r = w && w->wants_more ? watch_more(s, err) : 0;

	for (size_t i = 0; w && i < w->n && r == 0; i++) {
		struct err why = ERR_INIT;

		/* What is not marked now is in the freeze. */
		if (tracked_mark(w->item[i], &why) == -ENOMEM)
			r = err_nomem(err);
	}
	return r;
}

/* ---- frozen ---- */

static bool is_still(const struct session *s, struct tracked *d)
{
	const struct tracee *t = tree_find(&s->tree, tracked_pid(d));

	return t && !t->is_zombie && t->mm_owner == t && tracked_is_alive(d);
}

/* Their numbers may come again. */
static void forget_hopeless(struct session *s)
{
	struct vigil *w = s->job->vigil;
	size_t n = 0;

	for (size_t i = 0; i < w->nhopeless; i++)
		if (tree_find(&s->tree, w->hopeless[i]))
			w->hopeless[n++] = w->hopeless[i];
	w->nhopeless = n;
}

int vigil_check(struct session *s, struct err *err)
{
	struct vigil *w = s->job->vigil;
	size_t n = 0;

	(void)err;
	if (!w)
		return 0;
	forget_hopeless(s);
	for (size_t i = 0; i < w->n; i++) {
		if (is_still(s, w->item[i])) {
			w->item[n++] = w->item[i];
			continue;
		}
		tracked_free(w->item[i]);
		w->wants_more = true;
	}
	w->n = n;
	return 0;
}

/* Would it be seen whatever is written from now on? */
static bool is_async(struct session *s, const struct dump_mm *mm)
{
	const struct proc_status *status;

	for (size_t i = 0; i < files_count(&s->ctx); i++)
		if (files_get(&s->ctx, i)->uring)
			return true;
	for (size_t i = 0; i < mm->msg->n_vma; i++)
		if (mm->msg->vma[i]->kind == CPX__VMA__KIND__URING || mm->msg->vma[i]->kind == CPX__VMA__KIND__AIO)
			return true;
	return mm->msg->n_aio > 0 || attr_status(&s->ctx, mm->owner, NULL, &status, NULL) < 0 || status->vm_pin;
}

/* Is the parent the image whose changes are known? */
static bool is_known_parent(const struct session *s)
{
	const struct image *parent = s->job->delta->parent;

	return parent && memcmp(parent->id, s->job->vigil->id, sizeof(parent->id)) == 0;
}

static int take_mm(struct session *s, struct dump_mm *mm, struct tracked *d, struct err *err)
{
	int r = tracked_advance(d, mm->msg, err);

	if (r < 0 || !tracked_stored(d) || !is_known_parent(s))
		return r;
	r = tracked_take(d, mm->msg, err);
	if (r < 0)
		return r;
	mm->tracked = d;
	mm->msg->before_mm = tracked_stored(d);
	return 0;
}

/* What cannot be taken is compared as a whole. */
int vigil_take(struct session *s, struct err *err)
{
	struct vigil *w = s->job->vigil;

	for (size_t i = 0; w && i < s->nmms; i++) {
		struct dump_mm *mm = &s->mm[i];
		struct tracked *d = tracked_of(w, mm->owner->pid);
		struct err why = ERR_INIT;
		int r = d ? take_mm(s, mm, d, &why) : 0;

		if (!d && !is_hopeless(w, mm->owner->pid))
			w->wants_more = true;
		if (r == -ENOMEM)
			return err_nomem(err);
		if (r < 0)
			log_info("task %d (%s): is compared: %s", mm->owner->pid, mm->owner->comm, why.msg);
	}
	return 0;
}

void vigil_settle(struct session *s)
{
	struct vigil *w = s->job->vigil;

	for (size_t i = 0; w && i < s->nmms; i++) {
		struct tracked *d = tracked_of(w, s->mm[i].owner->pid);
		bool is_unseen = d && is_async(s, &s->mm[i]);
		struct err why = ERR_INIT;

		if (is_unseen) {
			set_async(&why, s->mm[i].owner);
			note_why(w, &why);
		}
		if (d)
			tracked_settle(d, is_unseen ? 0 : s->mm[i].msg->id);
	}
	if (w)
		image_writer_id(s->writer, w->id);
}

bool vigil_watches(const void *vigil, pid_t pid, uint64_t start, uint64_t end)
{
	const struct tracked *d = tracked_of(vigil, pid);

	return d && tracked_watches(d, start, end);
}

/* Without the memory for it the kernel ends it in its own way. */
void vigil_end(struct vigil *w, pid_t root, bool no_children)
{
	_cleanup_free_ struct track **track = calloc(w->n + 1, sizeof(struct track *));

	for (size_t i = 0; track && i < w->n; i++)
		track[i] = tracked_track(w->item[i]);
	if (track)
		precopy_end_tracks(track, w->n, root, no_children);
	while (w->n)
		tracked_free(w->item[--w->n]);
	free(w->item);
	free(w->hopeless);
	*w = (struct vigil)VIGIL_INIT;
}
