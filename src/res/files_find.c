/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What several kinds of descriptors look for in the tree and its tables. */
#include "res/files.h"

bool files_tree_has_thread(const struct dump_ctx *c, pid_t tid)
{
	for (size_t i = 0; c->tree && i < c->tree->n; i++) {
		const struct tracee *t = c->tree->task[i];

		if (t->pid == tid)
			return true;
		for (size_t k = 0; k < t->nthreads; k++)
			if (t->thread[k].tid == tid)
				return true;
	}
	return false;
}

bool files_table_has(const Cpx__FdTable *t, uint32_t file)
{
	for (size_t i = 0; i < t->n_fd; i++)
		if (t->fd[i]->file == file)
			return true;
	return false;
}
