/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page that a workload shares with the driver (a file on tmpfs, mapped by both), by which it is told what
 * to do and says what only it can measure. bench/target.py knows this layout.
 */
#ifndef BENCH_CONTROL_H
#define BENCH_CONTROL_H

#include <stdint.h>

enum command {
	CMD_NONE,
	CMD_TOUCH, /* write to every page, so that none is shared copy-on-write any more */
	CMD_FORK,  /* a bare fork() */
	CMD_WRITE, /* all of the memory to the scratch file, but pages of zeros */
	CMD_SAVE,  /* the same by a child, while this process runs on */
	CMD_LZ4,   /* compress it with `argument` threads, piece by piece, keeping nothing */
	CMD_DIRTY, /* change `argument` pages, spread over all */
	CMD_RESET, /* forget the longest gap */
	CMD_FORK_ALL, /* a bare fork() in each task, at the same time */
};

struct control {
	_Atomic uint32_t command; /* set by the driver, back to CMD_NONE when done */
	_Atomic uint32_t argument;
	_Atomic uint32_t ready;      /* tasks that have made what they were to make */
	_Atomic uint32_t tick_us;    /* the time between two looks of the first thread at this page */
	_Atomic uint32_t generation; /* counted up by the driver; a workload that sees a new one ... */
	_Atomic uint32_t started;    /* ... has been restored, and says so here, */
	_Atomic uint64_t started_ns; /* with the CLOCK_REALTIME of that */
	_Atomic uint64_t result_ns; /* of the last command */
	_Atomic uint64_t gap_ns;    /* the longest between two ticks */
	_Atomic uint64_t ticks;
	_Atomic uint64_t writes; /* of the writing thread */
	_Atomic uint32_t forked; /* tasks that have done so for CMD_FORK_ALL: a futex */
};

#endif
