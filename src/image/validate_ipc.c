/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SysV semaphores and message queues of an image: each id and key is there once, a set has a last
 * PID to each value, and the adjustments of tasks are of semaphores that are there. Pure functions.
 */
#include "image/reader.h"
#include "base/util.h"

#define SEM_VMAX 32767 /* SEMVMX */
#define PID_LIMIT     (1u << 22)

static int bad(struct err *err, const char *kind, int id, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s %d %s", kind, id, what);
}

static int check_set(const Cpx__SemSet *s, struct err *err)
{
	if (s->n_last_pid != s->n_value)
		return bad(err, "SemSet", s->perm->id, "has not one PID for each value");
	for (size_t i = 0; i < s->n_value; i++)
		if (s->value[i] > SEM_VMAX || s->last_pid[i] > PID_LIMIT)
			return bad(err, "SemSet", s->perm->id, "has an impossible semaphore");
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	const Cpx__IpcPerm *const *x = a, *const *y = b;

	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static int compare_keys(const void *a, const void *b)
{
	const Cpx__IpcPerm *const *x = a, *const *y = b;

	return ((*x)->key > (*y)->key) - ((*x)->key < (*y)->key);
}

/* Sorts: by key, at the end by id. */
static int check_unique(const char *kind, const Cpx__IpcPerm **perm, size_t n, struct err *err)
{
	if (n)
		qsort(perm, n, sizeof(*perm), compare_keys);
	for (size_t i = 1; i < n; i++)
		if (perm[i]->key && perm[i]->key == perm[i - 1]->key)
			return bad(err, kind, perm[i]->id, "has the key of another one");
	if (n)
		qsort(perm, n, sizeof(*perm), compare_ids);
	for (size_t i = 1; i < n; i++)
		if (perm[i]->id == perm[i - 1]->id)
			return bad(err, kind, perm[i]->id, "is there twice");
	return 0;
}

static const Cpx__SemSet *find_set(const Cpx__Image *info, int id)
{
	for (size_t i = 0; i < info->n_sem_set; i++)
		if (info->sem_set[i]->perm->id == id)
			return info->sem_set[i];
	return NULL;
}

static int check_undo(const Cpx__Image *info, const Cpx__Task *t, struct err *err)
{
	const Cpx__SemSet *s = NULL;

	for (size_t i = 0; i < t->n_sem_undo; i++) {
		const Cpx__SemUndo *u = t->sem_undo[i], *last = i ? t->sem_undo[i - 1] : NULL;

		if (!s || s->perm->id != u->id)
			s = find_set(info, u->id);
		if (!s || u->num >= s->n_value || u->adjust < -SEM_VMAX - 1 ||
		    u->adjust > SEM_VMAX || !u->adjust)
			return bad(err, "task", t->pid, "has an impossible semaphore adjustment");
		if (last && (last->id > u->id || (last->id == u->id && last->num >= u->num)))
			return bad(err, "task", t->pid, "has semaphore adjustments out of order");
		if (t->state == CPX__TASK__STATE__ZOMBIE)
			return bad(err, "zombie", t->pid, "has semaphore adjustments");
	}
	return 0;
}

int validate_ipc(const struct image *im, struct err *err)
{
	const Cpx__Image *info = im->info;
	size_t n = MAX(info->n_sem_set, info->n_msg_queue);
	_cleanup_free_ const Cpx__IpcPerm **perm = calloc(n + 1, sizeof(*perm));
	int r = perm ? 0 : err_nomem(err);

	for (size_t i = 0; i < info->n_sem_set && r == 0; i++) {
		perm[i] = info->sem_set[i]->perm;
		r = check_set(info->sem_set[i], err);
	}
	if (r == 0)
		r = check_unique("SemSet", perm, info->n_sem_set, err);
	for (size_t i = 0; i < info->n_msg_queue && r == 0; i++)
		perm[i] = info->msg_queue[i]->perm;
	if (r == 0)
		r = check_unique("MsgQueue", perm, info->n_msg_queue, err);
	for (size_t i = 0; i < im->ntasks && r == 0; i++)
		r = check_undo(info, im->task[i], err);
	return r;
}
