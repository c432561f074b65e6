/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/fdinfo/N (proc(5)), the list of fd/, and /proc/locks. Lock lines in fdinfo are those of
 * /proc/locks that the descriptor's file has from this descriptor or its task (fs/locks.c).
 */
#include "proc/internal.h"

static bool take_lock_type(struct scan *s, struct proc_lock *l)
{
	static const struct {
		const char *name;
		int type;
	} types[] = {
		{"FLOCK", PROC_LOCK_FLOCK},  {"POSIX", PROC_LOCK_POSIX},
		{"ACCESS", PROC_LOCK_POSIX}, {"OFDLCK", PROC_LOCK_OFD},
		{"LEASE", PROC_LOCK_LEASE},  {"DELEG", PROC_LOCK_LEASE},
		{"LAYOUT", PROC_LOCK_LEASE},
	};
	struct word w;

	scan_blanks(s);
	if (!scan_word(s, &w))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (word_is(w, types[i].name)) {
			l->type = types[i].type;
			return true;
		}
	return false;
}

static bool take_lock_mode(struct scan *s, struct proc_lock *l)
{
	struct word strength, access;

	scan_blanks(s);
	if (!scan_word(s, &strength))
		return false;
	scan_blanks(s);
	if (!scan_word(s, &access))
		return false;
	l->is_mandatory = word_is(strength, "MANDATORY");
	l->is_breaking = word_is(strength, "BREAKING");
	l->is_write = word_is(access, "WRITE");
	l->is_unlock = word_is(access, "UNLCK");
	return true;
}

static bool take_lock_end(struct scan *s, struct proc_lock *l)
{
	scan_blanks(s);
	if (scan_lit(s, "EOF")) {
		l->end = UINT64_MAX;
		return true;
	}
	return scan_u64(s, 10, &l->end);
}

static bool take_lock_place(struct scan *s, struct proc_lock *l)
{
	scan_blanks(s);
	if (!scan_int(s, &l->pid))
		return false;
	scan_blanks(s);
	if (!scan_u32(s, 16, &l->dev_major) || !scan_char(s, ':') ||
	    !scan_u32(s, 16, &l->dev_minor) || !scan_char(s, ':') || !scan_u64(s, 10, &l->ino))
		return false;
	scan_blanks(s);
	return scan_u64(s, 10, &l->start) && take_lock_end(s, l);
}

/* "1: POSIX  ADVISORY  WRITE 123 fe:00:9 0 EOF" */
static bool take_lock(struct scan *s, struct proc_lock *l)
{
	uint64_t number;

	scan_blanks(s);
	return scan_u64(s, 10, &number) && scan_char(s, ':') && take_lock_type(s, l) &&
	       take_lock_mode(s, l) && take_lock_place(s, l);
}

static int add_lock(struct scan *s, struct proc_lock **lock, size_t *n, size_t *max)
{
	struct proc_lock l = {0};

	if (!take_lock(s, &l))
		return -EBADMSG;
	if (grow(lock, max, *n, sizeof(l)) < 0)
		return -ENOMEM;
	(*lock)[(*n)++] = l;
	return 0;
}

static int take_line(struct scan *s, struct proc_fdinfo *f, size_t *max)
{
	bool is_good = true;

	if (scan_lit(s, "pos:")) {
		int64_t pos;

		scan_blanks(s);
		is_good = scan_i64(s, &pos); /* negative only in kinds without a position */
		f->pos = is_good ? (uint64_t)pos : 0;
	} else if (scan_lit(s, "flags:")) {
		scan_blanks(s);
		is_good = scan_u32(s, 8, &f->flags);
	} else if (scan_lit(s, "mnt_id:")) {
		scan_blanks(s);
		is_good = scan_int(s, &f->mnt_id);
	} else if (scan_lit(s, "ino:")) {
		scan_blanks(s);
		is_good = scan_u64(s, 10, &f->ino);
	} else if (scan_lit(s, "lock:")) {
		return add_lock(s, &f->lock, &f->nlocks, max);
	}
	return is_good ? 0 : -EBADMSG;
}

/* Kinds may print a second "ino:" or "pos:" of their own (fanotify, inotify with a blank): the
 * first four lines are the generic ones, later only locks count. */
int proc_fdinfo_parse(const char *text, size_t len, struct proc_fdinfo *ret)
{
	struct scan s = scan_of(text, len), line;
	struct proc_fdinfo f = {0};
	size_t max = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && scan_line(&s, &line); i++)
		if (i < 4 || (line.p < line.end && *line.p == 'l'))
			r = take_line(&line, &f, &max);
	f.text = r == 0 ? strndup(text, len) : NULL;
	if (r == 0 && !f.text)
		r = -ENOMEM;
	if (r < 0) {
		proc_fdinfo_release(&f);
		return r;
	}
	*ret = f;
	return 0;
}

int proc_fdinfo(int dir, int fd, struct proc_fdinfo *ret, struct err *err)
{
	char name[32];

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	return PROC_READ_PARSED(dir, name, proc_fdinfo_parse, err, ret);
}

void proc_fdinfo_release(struct proc_fdinfo *f)
{
	free(f->lock);
	free(f->text);
	*f = (struct proc_fdinfo){0};
}

bool proc_field_u64(const char *text, const char *key, int base, uint64_t *ret)
{
	struct scan s = scan_of(text, strlen(text)), line;

	while (scan_line(&s, &line)) {
		if (!scan_lit(&line, key) || !scan_char(&line, ':'))
			continue;
		scan_blanks(&line);
		if (base == 16)
			(void)scan_lit(&line, "0x");
		return scan_u64(&line, (unsigned)base, ret);
	}
	return false;
}

bool proc_field_time(const char *text, const char *key, uint64_t *ret_ns)
{
	struct scan s = scan_of(text, strlen(text)), line;
	uint64_t sec, nsec;

	while (scan_line(&s, &line)) {
		if (!scan_lit(&line, key) || !scan_lit(&line, ": (") ||
		    !scan_u64(&line, 10, &sec) || !scan_lit(&line, ", ") ||
		    !scan_u64(&line, 10, &nsec))
			continue;
		if (__builtin_mul_overflow(sec, 1000000000ULL, &sec) ||
		    __builtin_add_overflow(sec, nsec, ret_ns) || *ret_ns > INT64_MAX)
			*ret_ns = INT64_MAX;
		return true;
	}
	return false;
}

static bool take_device(struct scan *s, unsigned *major_nr, unsigned *minor_nr)
{
	uint32_t dev; /* as the kernel has it: MKDEV() of include/linux/kdev_t.h */

	if (!scan_u32(s, 16, &dev))
		return false;
	*major_nr = dev >> 20;
	*minor_nr = dev & 0xfffff;
	return true;
}

static bool take_key(struct scan *s, const char *key)
{
	scan_blanks(s);
	if (!scan_lit(s, key))
		return false;
	scan_blanks(s);
	return true;
}

static bool take_epoll_item(struct scan *s, struct proc_epoll_item *i)
{
	int64_t pos;

	scan_blanks(s);
	return scan_u32(s, 10, &i->fd) && take_key(s, "events:") && scan_u32(s, 16, &i->events) &&
	       take_key(s, "data:") && scan_u64(s, 16, &i->data) && take_key(s, "pos:") &&
	       scan_i64(s, &pos) && take_key(s, "ino:") && scan_u64(s, 16, &i->ino) &&
	       take_key(s, "sdev:") && take_device(s, &i->dev_major, &i->dev_minor);
}

int proc_epoll_items(const char *text, struct proc_epoll_item **ret, size_t *ret_n)
{
	struct scan s = scan_of(text, strlen(text)), line;
	struct proc_epoll_item *item = NULL, i;
	size_t n = 0, max = 0;
	int r = 0;

	while (r == 0 && scan_line(&s, &line)) {
		if (!scan_lit(&line, "tfd:"))
			continue;
		if (!take_epoll_item(&line, &i))
			r = -EBADMSG;
		else if (grow(&item, &max, n, sizeof(i)) < 0)
			r = -ENOMEM;
		else
			item[n++] = i;
	}
	if (r < 0) {
		free(item);
		return r;
	}
	*ret = item;
	*ret_n = n;
	return 0;
}

static bool take_hex_bytes(struct scan *s, uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct scan digits = scan_of(s->p, 2);
		uint64_t v;

		if (s->end - s->p < 2 || !scan_u64(&digits, 16, &v) || digits.p != s->p + 2)
			return false;
		buf[i] = (uint8_t)v;
		s->p += 2;
	}
	return true;
}

/* Not all filesystems have handles. */
static bool take_handle(struct scan *s, struct proc_inotify_watch *w)
{
	uint32_t bytes, type;

	if (!take_key(s, "fhandle-bytes:"))
		return true;
	if (!scan_u32(s, 16, &bytes) || bytes > sizeof(w->handle) ||
	    !take_key(s, "fhandle-type:") || !scan_u32(s, 16, &type) || !take_key(s, "f_handle:"))
		return false;
	w->handle_type = (int)type;
	w->handle_len = bytes;
	return take_hex_bytes(s, w->handle, bytes);
}

static bool take_watch(struct scan *s, struct proc_inotify_watch *w)
{
	uint32_t ignored;

	return take_key(s, "wd:") && scan_u32(s, 16, &w->wd) && take_key(s, "ino:") &&
	       scan_u64(s, 16, &w->ino) && take_key(s, "sdev:") &&
	       take_device(s, &w->dev_major, &w->dev_minor) && take_key(s, "mask:") &&
	       scan_u32(s, 16, &w->mask) && take_key(s, "ignored_mask:") &&
	       scan_u32(s, 16, &ignored) && take_handle(s, w);
}

int proc_inotify_watches(const char *text, struct proc_inotify_watch **ret, size_t *ret_n)
{
	struct scan s = scan_of(text, strlen(text)), line;
	struct proc_inotify_watch *watch = NULL;
	size_t n = 0, max = 0;
	int r = 0;

	while (r == 0 && scan_line(&s, &line)) {
		struct proc_inotify_watch w = {0};

		if (!scan_lit(&line, "inotify "))
			continue;
		if (!take_watch(&line, &w))
			r = -EBADMSG;
		else if (grow(&watch, &max, n, sizeof(w)) < 0)
			r = -ENOMEM;
		else
			watch[n++] = w;
	}
	if (r < 0) {
		free(watch);
		return r;
	}
	*ret = watch;
	*ret_n = n;
	return 0;
}

static int parse_locks(const char *text, size_t len, struct proc_lock **ret, size_t *ret_n)
{
	struct scan s = scan_of(text, len), line;
	struct proc_lock *lock = NULL;
	size_t n = 0, max = 0;
	int r = 0;

	while (r == 0 && scan_line(&s, &line))
		if (!memmem(line.p, (size_t)(line.end - line.p), "->", 2))
			r = add_lock(&line, &lock, &n, &max);
	if (r < 0) {
		free(lock);
		return r;
	}
	*ret = lock;
	*ret_n = n;
	return 0;
}

int proc_locks(int proc_fd, struct proc_lock **ret, size_t *ret_n, struct err *err)
{
	const char *name = proc_fd < 0 ? "/proc/locks" : "locks";

	return PROC_READ_PARSED(proc_fd, name, parse_locks, err, ret, ret_n);
}
