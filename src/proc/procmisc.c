/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small files of /proc/PID that hold one value or plain bytes. */
#include "proc/internal.h"

#include <elf.h>
#include <fcntl.h>

int proc_comm(int dir, char *buf, size_t size, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int r = proc_read(dir, "comm", &text, &len, err);

	if (r < 0)
		return r;
	if (len && text[len - 1] == '\n')
		len--;
	len = MIN(len, size - 1);
	memcpy(buf, text, len);
	buf[len] = '\0';
	return 0;
}

int proc_cmdline(int dir, char **ret, size_t *ret_len, struct err *err)
{
	return proc_read(dir, "cmdline", ret, ret_len, err);
}

int proc_auxv(int dir, void **ret, size_t *ret_len, struct err *err)
{
	char *bytes = NULL;
	int r = proc_read(dir, "auxv", &bytes, ret_len, err);

	if (r == 0)
		*ret = bytes;
	return r;
}

bool proc_auxv_get(const void *auxv, size_t len, uint64_t type, uint64_t *ret)
{
	for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= len; at += sizeof(Elf64_auxv_t)) {
		Elf64_auxv_t a;

		memcpy(&a, (const char *)auxv + at, sizeof(a));
		if (a.a_type == AT_NULL)
			return false;
		if (a.a_type == type) {
			*ret = a.a_un.a_val;
			return true;
		}
	}
	return false;
}

/* "se.exec_start      :      1812714.847846", in milliseconds with six decimals (SPLIT_NS). */
static int parse_exec_start(const char *text, size_t len, uint64_t *ret)
{
	struct scan s = scan_of(text, len), line;
	uint64_t ms, ns;

	while (scan_line(&s, &line)) {
		if (!scan_lit(&line, "se.exec_start"))
			continue;
		scan_blanks(&line);
		if (!scan_char(&line, ':'))
			return -EBADMSG;
		scan_blanks(&line);
		if (!scan_u64(&line, 10, &ms) || !scan_char(&line, '.') ||
		    !scan_u64(&line, 10, &ns) || ns > 999999 || ms > UINT64_MAX / 1000000 - 1)
			return -EBADMSG;
		*ret = ms * 1000000 + ns;
		return 0;
	}
	return -EBADMSG;
}

int proc_exec_start(int dir, uint64_t *ret_ns, struct err *err)
{
	int r = PROC_READ_PARSED(dir, "sched", parse_exec_start, err, ret_ns);

	return r == -ENOENT ? err_set(err, -EOPNOTSUPP,
				      "this kernel has no /proc/PID/sched "
				      "(CONFIG_SCHED_DEBUG)")
			    : r;
}

static bool scan_hex(struct scan *s, uint64_t *ret)
{
	scan_blanks(s);
	return scan_lit(s, "0x") && scan_u64(s, 16, ret);
}

/* "running", "-1 SP PC" or "NR A1 .. A6 SP PC". */
int proc_syscall_parse(const char *text, size_t len, struct proc_syscall *ret)
{
	struct scan s = scan_of(text, len);
	struct proc_syscall c = {0};
	bool is_good;

	c.is_running = scan_lit(&s, "running");
	is_good = c.is_running || scan_i64(&s, &c.nr);
	for (unsigned i = 0; !c.is_running && is_good && c.nr >= 0 && i < 6; i++)
		is_good = scan_hex(&s, &c.arg[i]);
	if (!c.is_running)
		is_good = is_good && scan_hex(&s, &c.sp) && scan_hex(&s, &c.pc);
	if (!is_good)
		return -EBADMSG;
	*ret = c;
	return 0;
}

int proc_syscall(int dir, struct proc_syscall *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "syscall", proc_syscall_parse, err, ret);
}

static int parse_hex(const char *text, size_t len, uint32_t *ret)
{
	struct scan s = scan_of(text, len);

	return scan_u32(&s, 16, ret) ? 0 : -EBADMSG;
}

static int parse_int(const char *text, size_t len, int *ret)
{
	struct scan s = scan_of(text, len);

	return scan_int(&s, ret) ? 0 : -EBADMSG;
}

static int parse_decimal(const char *text, size_t len, uint64_t *ret)
{
	struct scan s = scan_of(text, len);

	return scan_u64(&s, 10, ret) ? 0 : -EBADMSG;
}

int proc_personality(int dir, uint32_t *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "personality", parse_hex, err, ret);
}

int proc_oom_score_adj(int dir, int *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "oom_score_adj", parse_int, err, ret);
}

int proc_coredump_filter(int dir, uint32_t *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "coredump_filter", parse_hex, err, ret);
}

/* The file is in /proc/TID only, not under task/ (fs/proc/base.c, tid_base_stuff). */
int proc_timerslack(int proc_fd, pid_t tid, uint64_t *ret_ns, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = proc_open(proc_fd, tid, 0, &dir, err);

	return r < 0 ? r : PROC_READ_PARSED(dir, "timerslack_ns", parse_decimal, err, ret_ns);
}

static int parse_uuid(const char *text, size_t len, char *ret)
{
	if (len < 36)
		return -EBADMSG;
	memcpy(ret, text, 36);
	ret[36] = '\0';
	return 0;
}

int proc_boot_id(int proc_fd, char ret[37], struct err *err)
{
	const char *name =
		proc_fd < 0 ? "/proc/sys/kernel/random/boot_id" : "sys/kernel/random/boot_id";

	return PROC_READ_PARSED(proc_fd, name, parse_uuid, err, ret);
}
