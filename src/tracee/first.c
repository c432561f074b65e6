/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tasks that are stopped before the rest of their tree: those that have asked something of others
 * that cannot be looked at (a connection not yet accepted). What is stopped asks nothing more, and the
 * others go on for as long as it takes them to answer. Without that a busy server, which is stopped
 * before its clients where it is their parent, is never found without such a question.
 *
 * Whether they belong to the tree at all is found out later, when its lists are final: until then they
 * are in a list of their own.
 */
#include "tracee/tracee_priv.h"

#include <time.h>

/* A task that has gone, or may not be stopped: the freeze of the whole tree will tell. */
static void add(struct freezer *early, pid_t pid)
{
	struct err ignored = ERR_INIT;

	if (!tree_find(early->tree, pid))
		freeze_add_task(early, pid, NULL, &ignored);
}

int freeze_first(struct freezer *f, struct err *err)
{
	struct freezer early = *f;
	struct timespec t = {.tv_sec = f->o->first_ms / 1000,
			     .tv_nsec = f->o->first_ms % 1000 * 1000000L};
	int r;

	early.tree = &f->first;
	early.first = (struct tree){0};
	for (size_t i = 0; i < f->o->nfirst; i++)
		add(&early, f->o->first[i]);
	if (!f->first.n)
		return 0;
	r = freeze_threads(&early, err);
	f->tree->frozen_at_ns = f->first.frozen_at_ns;
	if (r == 0)
		nanosleep(&t, NULL);
	return r;
}

void freeze_take_first(struct freezer *f, struct tracee *t)
{
	size_t i = 0;

	while (f->first.task[i] != t)
		i++;
	f->first.task[i] = f->first.task[--f->first.n];
	t->tree = f->tree;
}

void freeze_release_first(struct freezer *f)
{
	tree_thaw(&f->first, THAW_RUN);
	tree_release(&f->first);
}
