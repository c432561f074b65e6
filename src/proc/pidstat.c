/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/stat (proc(5), fs/proc/array.c do_task_stat()). comm may hold anything, brackets and
 * newlines too, so it ends at the last bracket. Addresses and exit_code are 0 without the right
 * to ptrace the task.
 */
#include "proc/internal.h"

/* Fields after comm and state, in the file's order, from number 4 on. */
struct field {
	enum { SKIP, I32, U32, I64, U64 } type;
	size_t offset;
};

#define F(type_, member) {type_, offsetof(struct proc_stat, member)}
#define SKIPPED {SKIP, 0}

static const struct field fields[] = {
	F(I32, ppid), F(I32, pgid), F(I32, sid), F(I32, tty_nr), F(I32, tpgid),
	F(U32, flags),
	SKIPPED, SKIPPED, SKIPPED, SKIPPED, /* faults */
	F(U64, utime), F(U64, stime), F(U64, cutime), F(U64, cstime),
	F(I64, priority), F(I64, nice),
	F(U32, num_threads), SKIPPED, F(U64, starttime), F(U64, vsize), F(I64, rss),
	SKIPPED, /* rsslim */
	F(U64, start_code), F(U64, end_code), F(U64, start_stack),
	SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED, SKIPPED,
	F(I32, exit_signal), F(I32, processor), F(U32, rt_priority), F(U32, policy),
	SKIPPED, SKIPPED, SKIPPED, /* delays, guest time */
	F(U64, start_data), F(U64, end_data), F(U64, start_brk),
	F(U64, arg_start), F(U64, arg_end), F(U64, env_start), F(U64, env_end),
	F(I32, exit_code),
};

static bool scan_field(struct scan *s, const struct field *f, struct proc_stat *st)
{
	void *member = (char *)st + f->offset;
	struct word ignored;

	scan_blanks(s);
	switch (f->type) {
	case I32:
		return scan_int(s, member);
	case U32:
		return scan_u32(s, 10, member);
	case I64:
		return scan_i64(s, member);
	case U64:
		return scan_u64(s, 10, member);
	case SKIP:
		return scan_word(s, &ignored);
	}
	return false;
}

static bool scan_comm(struct scan *s, struct proc_stat *st)
{
	const char *open = s->p, *close = s->end;
	size_t len;

	if (!scan_char(s, '('))
		return false;
	while (close > open && *close != ')')
		close--;
	if (close == open)
		return false;
	len = MIN((size_t)(close - open - 1), sizeof(st->comm) - 1);
	memcpy(st->comm, open + 1, len);
	st->comm[len] = '\0';
	s->p = close + 1;
	return true;
}

int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret)
{
	struct scan all = scan_of(text, len), s = all;
	struct proc_stat st = {0};

	if (len && text[len - 1] == '\n')
		s.end--;
	if (!scan_int(&s, &st.pid) || !scan_char(&s, ' ') || !scan_comm(&s, &st) ||
	    !scan_char(&s, ' ') || scan_is_end(&s))
		return -EBADMSG;
	st.state = *s.p++;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (!scan_field(&s, &fields[i], &st))
			return -EBADMSG;
	*ret = st;
	return 0;
}

int proc_stat(int dir, struct proc_stat *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "stat", proc_stat_parse, err, ret);
}
