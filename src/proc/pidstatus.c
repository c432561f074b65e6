/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/status (proc(5), fs/proc/array.c). A table of lines; unknown lines are ignored, missing
 * ones leave zeros, except those that every kernel from 5.14 on writes.
 */
#include "proc/internal.h"

struct line {
	const char *key;
	bool (*take)(struct scan *s, const struct line *l, struct proc_status *st);
	size_t offset;
	bool is_required;
};

static void *member_of(struct proc_status *st, const struct line *l)
{
	return (char *)st + l->offset;
}

static bool take_state(struct scan *s, const struct line *l, struct proc_status *st)
{
	if (scan_is_end(s))
		return false;
	st->state = *s->p;
	return true;
}

/* A name may begin with blanks. Two characters of it are written as two (fs/proc/array.c, proc_task_name). */
static bool take_comm(struct scan *s, const struct line *l, struct proc_status *st)
{
	size_t n = 0;

	while (s->p[-1] != ':')
		s->p--;
	scan_char(s, '\t');
	for (; !scan_is_end(s) && n + 1 < sizeof(st->comm); s->p++) {
		bool is_escaped = *s->p == '\\' && s->p + 1 < s->end;

		s->p += is_escaped;
		st->comm[n++] = is_escaped && *s->p == 'n' ? '\n' : *s->p;
	}
	return true;
}

static bool take_pid(struct scan *s, const struct line *l, struct proc_status *st)
{
	return scan_int(s, member_of(st, l));
}

static bool take_octal(struct scan *s, const struct line *l, struct proc_status *st)
{
	return scan_u32(s, 8, member_of(st, l));
}

static bool take_u32(struct scan *s, const struct line *l, struct proc_status *st)
{
	return scan_u32(s, 10, member_of(st, l));
}

static bool take_bool(struct scan *s, const struct line *l, struct proc_status *st)
{
	uint64_t v;

	if (!scan_u64(s, 10, &v))
		return false;
	*(bool *)member_of(st, l) = v != 0;
	return true;
}

static bool take_mask(struct scan *s, const struct line *l, struct proc_status *st)
{
	return scan_u64(s, 16, member_of(st, l));
}

static bool take_kb(struct scan *s, const struct line *l, struct proc_status *st)
{
	uint64_t kb;

	st->has_mm = true;
	if (!scan_u64(s, 10, &kb) || kb > UINT64_MAX >> 10)
		return false;
	*(uint64_t *)member_of(st, l) = kb << 10;
	return true;
}

static bool take_four(struct scan *s, const struct line *l, struct proc_status *st)
{
	uint32_t *id = member_of(st, l);

	for (int i = 0; i < 4; i++, scan_blanks(s))
		if (!scan_u32(s, 10, &id[i]))
			return false;
	return true;
}

static bool take_sigq(struct scan *s, const struct line *l, struct proc_status *st)
{
	return scan_u64(s, 10, &st->sigq) && scan_char(s, '/') && scan_u64(s, 10, &st->sigq_max);
}

static bool take_groups(struct scan *s, const struct line *l, struct proc_status *st)
{
	size_t max = 0;
	uint32_t gid;

	free(st->groups);
	st->groups = NULL;
	st->ngroups = 0;
	for (; scan_u32(s, 10, &gid); scan_blanks(s)) {
		if (grow(&st->groups, &max, st->ngroups, sizeof(gid_t)) < 0)
			return false;
		st->groups[st->ngroups++] = gid;
	}
	return scan_is_end(s);
}

/* NStgid and its like: one number a namespace, the reader's own first. */
static bool take_ns(struct scan *s, const struct line *l, struct proc_status *st)
{
	pid_t *pid = member_of(st, l);
	unsigned n = 0;

	for (; n < ARRAY_SIZE(st->nspid) && scan_int(s, &pid[n]); n++)
		scan_blanks(s);
	st->nns = n;
	return n > 0 && scan_is_end(s);
}

#define L(key_, take_, member) {key_, take_, offsetof(struct proc_status, member), false}
#define R(key_, take_, member) {key_, take_, offsetof(struct proc_status, member), true}

static const struct line lines[] = {
	R("Name", take_comm, comm),
	R("State", take_state, state),
	L("Umask", take_octal, umask),
	R("Tgid", take_pid, tgid),
	R("Pid", take_pid, pid),
	R("PPid", take_pid, ppid),
	R("TracerPid", take_pid, tracer_pid),
	R("Uid", take_four, uid),
	R("Gid", take_four, gid),
	R("Groups", take_groups, groups),
	L("NStgid", take_ns, nstgid),
	L("NSpid", take_ns, nspid),
	L("NSpgid", take_ns, nspgid),
	L("NSsid", take_ns, nssid),
	L("VmLck", take_kb, vm_lck),
	L("VmPin", take_kb, vm_pin),
	L("VmRSS", take_kb, vm_rss),
	L("RssAnon", take_kb, rss_anon),
	L("RssFile", take_kb, rss_file),
	L("RssShmem", take_kb, rss_shmem),
	L("VmSwap", take_kb, vm_swap),
	L("HugetlbPages", take_kb, hugetlb_pages),
	L("CoreDumping", take_bool, core_dumping),
	L("THP_enabled", take_bool, thp_enabled),
	R("Threads", take_u32, threads),
	R("SigQ", take_sigq, sigq),
	R("SigPnd", take_mask, sig_pnd),
	R("ShdPnd", take_mask, shd_pnd),
	R("SigBlk", take_mask, sig_blk),
	R("SigIgn", take_mask, sig_ign),
	R("SigCgt", take_mask, sig_cgt),
	R("CapInh", take_mask, cap_inh),
	R("CapPrm", take_mask, cap_prm),
	R("CapEff", take_mask, cap_eff),
	R("CapBnd", take_mask, cap_bnd),
	L("CapAmb", take_mask, cap_amb),
	L("NoNewPrivs", take_bool, no_new_privs),
	L("Seccomp", take_pid, seccomp),
	L("Seccomp_filters", take_pid, seccomp_filters),
};

/* The lines come in the order of the table: the search begins where the last one ended (*next). */
static bool take_line(struct scan *line, struct proc_status *st, uint64_t *seen, size_t *next)
{
	for (size_t k = 0; k < ARRAY_SIZE(lines); k++) {
		size_t i = (*next + k) % ARRAY_SIZE(lines);
		struct scan s = *line;

		if (scan_is_end(&s) || *s.p != lines[i].key[0] || !scan_lit(&s, lines[i].key) ||
		    !scan_char(&s, ':'))
			continue;
		scan_blanks(&s);
		*seen |= 1ULL << i;
		*next = i + 1;
		return lines[i].take(&s, &lines[i], st);
	}
	return true;
}

static bool has_required(uint64_t seen)
{
	_Static_assert(ARRAY_SIZE(lines) <= 64, "one bit a line");

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		if (lines[i].is_required && !(seen & 1ULL << i))
			return false;
	return true;
}

int proc_status_parse(const char *text, size_t len, struct proc_status *ret)
{
	struct scan s = scan_of(text, len), line;
	struct proc_status st = {0};
	uint64_t seen = 0;
	size_t next = 0;
	bool is_good = true;

	while (is_good && scan_line(&s, &line))
		is_good = take_line(&line, &st, &seen, &next);
	if (!is_good || !has_required(seen)) {
		proc_status_release(&st);
		return -EBADMSG;
	}
	*ret = st;
	return 0;
}

int proc_status(int dir, struct proc_status *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "status", proc_status_parse, err, ret);
}

void proc_status_release(struct proc_status *s)
{
	free(s->groups);
	s->groups = NULL;
	s->ngroups = 0;
}
