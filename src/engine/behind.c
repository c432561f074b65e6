/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who gives way while a tree runs on and its copy is written. A tree that uses the processors comes first: twins and
 * workers step behind it as with nice(1). For one that does not that would only make the dump longer, as twins and
 * workers stand behind cpx itself then, and behind whatever else there is.
 *
 * Reads the CPU clocks of the tasks (clock_getcpuclockid(3)), which all may do, and for how long their leaders were ready to
 * run without a processor (/proc/PID/schedstat), as on a machine under load. Looks at each group of pages that is written; what the
 * tree loses until it is noticed are a few milliseconds.
 */
#include "engine/behind.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "proc/proc.h"

#include <time.h>

/* From here on the writing takes a while; a smaller memory is out before anybody would notice. */
#define YIELD_FROM (64UL << 20)
/* Between two looks. */
#define LOOK_NS (4UL * 1000 * 1000)
/* Of one processor. */
#define BUSY_SHARE 8
/* Reading a file takes a while, and where there are more tasks they get some of the processors. */
#define WAITERS_MAX 16

static uint64_t waited_ns(pid_t pid)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ char *text = NULL;
	unsigned long long waited;
	size_t n;

	if (proc_open(-1, pid, 0, &dir, NULL) < 0 || proc_read(dir, "schedstat", &text, &n, NULL) < 0)
		return 0;
	return sscanf(text, "%*u %llu", &waited) == 1 ? waited : 0;
}

/* That they ran or were ready to. Who has ended meanwhile does not count. */
static uint64_t tree_ns(const struct session *s)
{
	uint64_t sum = 0;
	clockid_t clock;

	for (size_t i = 0; i < s->ntasks; i++) {
		pid_t pid = s->task[i].t->pid;

		if (clock_getcpuclockid(pid, &clock) == 0)
			sum += (uint64_t)clock_ns(clock);
		if (i < WAITERS_MAX)
			sum += waited_ns(pid);
	}
	return sum;
}

static void look(struct behind *b, const struct session *s)
{
	b->at_ns = monotonic_ns();
	b->tree_ns = tree_ns(s);
}

static bool is_busy(struct behind *b, const struct session *s)
{
	struct behind then = *b;

	look(b, s);
	return b->tree_ns > then.tree_ns &&
	       (b->tree_ns - then.tree_ns) * BUSY_SHARE > b->at_ns - then.at_ns;
}

void behind_begin(struct session *s)
{
	s->behind.may_yield = s->info->memory_bytes >= YIELD_FROM;
	if (s->behind.may_yield)
		look(&s->behind, s);
}

void behind_step(struct session *s, struct pageout *p)
{
	struct behind *b = &s->behind;

	if (!b->may_yield || monotonic_ns() - b->at_ns < LOOK_NS || !is_busy(b, s))
		return;
	b->may_yield = false; /* there is no way back for who is not privileged */
	log_debug("the tree is at work: its memory is written in the background");
	pageout_yield(p);
	for (size_t i = 0; i < s->nmms; i++)
		if (s->mm[i].twin)
			twin_yield(s->mm[i].twin);
}
