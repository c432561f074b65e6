/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A dump under way, passed first to everything that takes part in it. Its stages are in dump.c;
 * `cpx check` goes through those that only look (check.c).
 *
 * Whatever is changed in a task is undone by tree_thaw(), which session_release() calls, so that
 * leaving at any point leaves the tree as it was.
 */
#ifndef CPX_ENGINE_SESSION_H
#define CPX_ENGINE_SESSION_H

#include "base/err.h"
#include "base/pace.h"
#include "cpx.h"
#include "engine/accept.h"
#include "engine/delta.h"
#include "engine/enter.h"
#include "engine/output.h"
#include "engine/precopy.h"
#include "engine/vigil.h"
#include "image/image.h"
#include "mem/mem.h"
#include "res/res.h"
#include "tracee/tracee.h"

#include <stdbool.h>

/* An address space, and the twin that holds it still once the tree runs again. */
struct dump_mm {
	struct tracee *owner;
	Cpx__Mm *msg;
	bool has_children; /* another one names it as parent_mm */
	struct aside *aside;
	struct tracked *tracked; /* knows what is as in the parent image; borrowed */
	struct track *track; /* its memory was stored ahead, but for what this has taken; borrowed */
	struct twin *twin;
};

struct dump_task {
	struct tracee *t;
	Cpx__Task *msg;
	bool has_continued; /* children that have been continued, and it has not waited for that yet */
};

/* behind.c */
struct behind {
	bool may_yield;
	uint64_t at_ns, tree_ns; /* at the last look: CLOCK_MONOTONIC, and the time that tasks ran or could have run */
};

struct session {
	struct job *job; /* borrowed */
	const struct cpx_dump_options *options;
	struct cpx_result *result;
	struct output *output; /* borrowed */
	struct tree tree;
	struct refusals refusals;
	struct external_rules external;
	struct dump_ctx ctx;
	Cpx__Image *info;
	struct dump_task *task; /* in the order of the tree */
	size_t ntasks;
	struct dump_mm *mm; /* in the order of the tree */
	size_t nmms;
	bool has_own_ipc;     /* the tree's IPC namespace is not the one that cpx was started in */
	bool is_closed_to_us; /* a task in which nothing can be injected was refused */
	bool is_exact;	      /* nothing may be read before the freeze */
	bool must_repeat;     /* what was read before the freeze was not true any more */
	bool is_twinned;      /* every mm has its twin, or its track */
	struct precopy *precopy; /* borrowed */
	struct image_writer_options format;
	struct pace pace; /* of writing it */
	struct behind behind;
	struct image_writer *writer;
	uint64_t started_ns; /* CLOCK_MONOTONIC */
};

/* What is to be done, where: here or in the namespaces of the tree. */
struct job {
	const struct cpx_dump_options *options;
	struct output *output; /* open; NULL: check only */
	struct delta *delta;   /* NULL: check only */
	bool is_series;	       /* one of several dumps: what has no parent to build on is stored as a whole */
	struct vigil *vigil;   /* NULL: nobody is watched from one dump to the next */
	struct enter_plan plan;
	/* When it is tried again: the tasks for which it was refused, to be stopped before the others. */
	pid_t *first;
	size_t nfirst;
	unsigned first_ms;
};
/* Decides where, and has fn(job, result) run there, with the pid of job->options as it is there.
 * Ends with result_set(). */
int job_run(struct job *j, int (*fn)(void *job, struct cpx_result *r), struct cpx_result *r);

/* A step of a session. 0, or -errno. */
struct stage {
	const char *name;
	int (*run)(struct session *s, struct err *err);
	bool is_last_look; /* with refusals, the session ends after it: nothing was changed yet */
};

int session_init(struct session *s, struct job *j, struct cpx_result *r, struct err *err);
void session_release(struct session *s);
/* Fills in how long it took and how long the tree stood still, so far. */
void session_time(struct session *s);

unsigned session_workers(const struct session *s);
/* Starts the image, unless pre-copy has. */
int session_start_writer(struct session *s, struct err *err);

/* Runs the stages until one fails, a signal asks to stop, or there are refusals at the last look
 * (then 0 is returned). */
int session_run(struct session *s, const struct stage *stage, size_t n, struct err *err);

/* The thread that speaks for the task: its leader or, when that has exited, the first live one. */
size_t tracee_speaker(const struct tracee *t);

/* ---- stages that look ---- */
int collect_host(struct session *s, struct err *err);	    /* collect.c: this machine */
int collect_freeze(struct session *s, struct err *err);
int collect_tasks(struct session *s, struct err *err);	    /* collect.c: from outside */
int collect_sharing(struct session *s, struct err *err);    /* sharing.c */
int collect_files(struct session *s, struct err *err);	    /* collect.c */
int collect_borrowed(struct session *s, struct err *err);   /* collect.c */
int collect_memory(struct session *s, struct err *err);	    /* collect.c */
int collect_injection(struct session *s, struct err *err);  /* collect.c */
int collect_attributes(struct session *s, struct err *err); /* ask.c: what only the tasks can say */
int collect_ipc(struct session *s, struct err *err);	    /* sharing.c: SysV semaphores, queues */

/* Refuses a task in which nothing may be injected. */
int collect_closed(struct session *s, const struct tracee *t, const char *object,
		   const struct err *why, struct err *err);
/* ask.c: before anything is injected, whether the filters of the threads let them answer. */
int ask_permission(struct session *s, struct err *err);

#endif
