/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /proc/PID/limits (fs/proc/base.c, proc_pid_limits()): needs no right but to read /proc, unlike
 * prlimit(2). */
#include "proc/internal.h"

#include <sys/resource.h>

static const struct {
	const char *name;
	int resource;
} names[] = {
	{"Max cpu time", RLIMIT_CPU},
	{"Max file size", RLIMIT_FSIZE},
	{"Max data size", RLIMIT_DATA},
	{"Max stack size", RLIMIT_STACK},
	{"Max core file size", RLIMIT_CORE},
	{"Max resident set", RLIMIT_RSS},
	{"Max processes", RLIMIT_NPROC},
	{"Max open files", RLIMIT_NOFILE},
	{"Max locked memory", RLIMIT_MEMLOCK},
	{"Max address space", RLIMIT_AS},
	{"Max file locks", RLIMIT_LOCKS},
	{"Max pending signals", RLIMIT_SIGPENDING},
	{"Max msgqueue size", RLIMIT_MSGQUEUE},
	{"Max nice priority", RLIMIT_NICE},
	{"Max realtime priority", RLIMIT_RTPRIO},
	{"Max realtime timeout", RLIMIT_RTTIME},
};

static bool take_value(struct scan *s, uint64_t *ret)
{
	scan_blanks(s);
	if (scan_lit(s, "unlimited")) {
		*ret = UINT64_MAX;
		return true;
	}
	return scan_u64(s, 10, ret);
}

static bool take_line(struct scan *line, struct proc_limit *limit)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct scan s = *line;
		struct proc_limit *l = &limit[names[i].resource];

		if (!scan_lit(&s, names[i].name) || !scan_char(&s, ' '))
			continue;
		l->is_known = take_value(&s, &l->soft) && take_value(&s, &l->hard);
		return l->is_known;
	}
	return true; /* the heading, or a limit newer than this table */
}

int proc_limits_parse(const char *text, size_t len, struct proc_limit ret[PROC_NLIMITS])
{
	struct scan s = scan_of(text, len), line;
	struct proc_limit limit[PROC_NLIMITS] = {0};

	_Static_assert(RLIM_NLIMITS <= PROC_NLIMITS, "room for all");
	while (scan_line(&s, &line))
		if (!take_line(&line, limit))
			return -EBADMSG;
	memcpy(ret, limit, sizeof(limit));
	return 0;
}

int proc_limits(int dir, struct proc_limit ret[PROC_NLIMITS], struct err *err)
{
	return PROC_READ_PARSED(dir, "limits", proc_limits_parse, err, ret);
}
