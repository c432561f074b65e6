/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stage for tests of descriptors: a scene's tasks set up their descriptors and stop; the tables
 * are dumped from outside into a real image; the tasks are killed; their descriptors are restored
 * from the image and given to fresh tasks, which verify from inside.
 */
#ifndef CPX_TESTS_FILES_STAGE_H
#define CPX_TESTS_FILES_STAGE_H

#include "base/util.h"
#include "res/files.h"

#define STAGE_TASKS 3

struct scene {
	int ntasks; /* 0: one. Task i + 1 is a child of task i */
	/* In the task, with no descriptor open but 0-2 (/dev/null). The first task has set up when
	 * the next is forked. */
	void (*setup)(int task);
	/* In the task restored, one after the other in order. */
	void (*verify)(int task);
	/* In the test, after the tasks are dead and before anything is restored. May be NULL. */
	void (*between)(void);
	int tty_fd;	     /* the terminal to restore onto, plus one; 0: none */
	const char *refused; /* a part of the refusal that is expected, NULL: none */
	const char *refused_restore;
	uint64_t ghost_limit; /* 0: 1 MiB */
	/* Called with the tree stopped and the tables collected. */
	void (*inspect)(struct dump_ctx *c);
	/* Called with everything open and filled, before any task is there. */
	void (*restored)(struct restore_ctx *c);
};

/* Ends the task with a message unless cond holds. */
#define must(cond) stage_must(cond, #cond, __FILE__, __LINE__)
void stage_must(bool cond, const char *text, const char *file, int line);
/* Moves a descriptor to a number of one's choice. */
int place(int fd, int number);
/* The pid that task i had when it was dumped. */
pid_t stage_old_pid(int task);
/* In verify: the next task may begin; this one stays until the last has ended. */
void stage_linger(void);

/* Fails the test on any difference. */
void stage_play(const struct scene *s);

#endif
