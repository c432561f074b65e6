/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/timers (proc(5), fs/proc/base.c show_timer()): four lines a POSIX timer. Only kernels
 * with CONFIG_CHECKPOINT_RESTORE have it; values and intervals must be asked of the task itself.
 */
#include "proc/internal.h"

#include <signal.h>

static bool take_id(struct scan *s, struct proc_timer *t)
{
	scan_blanks(s);
	return scan_int(s, &t->id);
}

/* "signal: 14/0000000000000000" */
static bool take_signal(struct scan *s, struct proc_timer *t)
{
	scan_blanks(s);
	return scan_int(s, &t->signo) && scan_char(s, '/') && scan_u64(s, 16, &t->sigval);
}

/* "notify: signal/pid.123", "none/tid.5", "thread/pid.7" */
static bool take_notify(struct scan *s, struct proc_timer *t)
{
	scan_blanks(s);
	if (scan_lit(s, "signal/"))
		t->notify = SIGEV_SIGNAL;
	else if (scan_lit(s, "none/"))
		t->notify = SIGEV_NONE;
	else if (scan_lit(s, "thread/"))
		t->notify = SIGEV_THREAD;
	else
		return false;
	t->is_tid = scan_lit(s, "tid.");
	if (!t->is_tid && !scan_lit(s, "pid."))
		return false;
	if (t->is_tid)
		t->notify |= SIGEV_THREAD_ID;
	return scan_int(s, &t->pid);
}

static bool take_clock(struct scan *s, struct proc_timer *t)
{
	scan_blanks(s);
	return scan_int(s, &t->clock);
}

static const struct {
	const char *key;
	bool (*take)(struct scan *s, struct proc_timer *t);
} lines[] = {
	{"ID:", take_id},
	{"signal:", take_signal},
	{"notify:", take_notify},
	{"ClockID:", take_clock},
};

static bool take_line(struct scan *s, struct proc_timer *t)
{
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (scan_lit(s, lines[i].key))
			return lines[i].take(s, t);
	return true;
}

int proc_timers_parse(const char *text, size_t len, struct proc_timer **ret, size_t *ret_n)
{
	struct scan s = scan_of(text, len), line, probe;
	_cleanup_free_ struct proc_timer *timer = NULL;
	size_t n = 0, max = 0;

	while (scan_line(&s, &line)) {
		probe = line;
		if (scan_lit(&probe, "ID:")) {
			if (grow(&timer, &max, n, sizeof(*timer)) < 0)
				return -ENOMEM;
			timer[n++] = (struct proc_timer){0};
		}
		if (!n || !take_line(&line, &timer[n - 1]))
			return -EBADMSG;
	}
	*ret = TAKE_PTR(timer);
	*ret_n = n;
	return 0;
}

int proc_timers(int dir, struct proc_timer **ret, size_t *ret_n, struct err *err)
{
	int r = PROC_READ_PARSED(dir, "timers", proc_timers_parse, err, ret, ret_n);

	if (r == -ENOENT)
		return err_set(err, -EOPNOTSUPP,
			       "this kernel does not list POSIX timers "
			       "(CONFIG_CHECKPOINT_RESTORE)");
	return r;
}
