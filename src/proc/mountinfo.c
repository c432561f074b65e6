/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /proc/PID/mountinfo (proc(5)). Names in it are octal-escaped (fs/proc_namespace.c). */
#include "proc/internal.h"

static bool next_word(struct scan *s, struct word *ret)
{
	scan_blanks(s);
	return scan_word(s, ret);
}

struct words {
	struct word root, mountpoint, options, fstype, source;
};

static bool take_head(struct scan *s, struct proc_mount *m)
{
	if (!scan_int(s, &m->id) || !scan_char(s, ' ') || !scan_int(s, &m->parent))
		return false;
	scan_blanks(s);
	return scan_u32(s, 10, &m->dev_major) && scan_char(s, ':') &&
	       scan_u32(s, 10, &m->dev_minor);
}

static bool take_words(struct scan *s, struct words *w)
{
	struct word optional;

	if (!next_word(s, &w->root) || !next_word(s, &w->mountpoint) || !next_word(s, &w->options))
		return false;
	do {
		if (!next_word(s, &optional))
			return false;
	} while (!word_is(optional, "-"));
	return next_word(s, &w->fstype) && next_word(s, &w->source);
}

static bool has_option(struct word options, const char *name)
{
	size_t n = strlen(name), i = 0;

	while (i < options.len) {
		const char *comma = memchr(options.p + i, ',', options.len - i);
		size_t end = comma ? (size_t)(comma - options.p) : options.len;

		if (end - i == n && !memcmp(options.p + i, name, n))
			return true;
		i = end + 1;
	}
	return false;
}

static void mount_release(struct proc_mount *m)
{
	free(m->root);
	free(m->mountpoint);
	free(m->fstype);
	free(m->source);
}

static int take_mount(struct scan *line, struct proc_mount *m)
{
	struct words w = {0};

	if (!take_head(line, m) || !take_words(line, &w))
		return -EBADMSG;
	m->root = word_unescape(w.root);
	m->mountpoint = word_unescape(w.mountpoint);
	m->fstype = word_unescape(w.fstype);
	m->source = word_unescape(w.source);
	m->is_readonly = has_option(w.options, "ro");
	return m->root && m->mountpoint && m->fstype && m->source ? 0 : -ENOMEM;
}

static int add_mount(struct proc_mounts *list, struct scan *line)
{
	struct proc_mount m = {0};
	int r = take_mount(line, &m);

	if (r == 0)
		r = grow(&list->mount, &list->max, list->n, sizeof(m));
	if (r < 0) {
		mount_release(&m);
		return r;
	}
	list->mount[list->n++] = m;
	return 0;
}

int proc_mounts_parse(const char *text, size_t len, struct proc_mounts *ret)
{
	struct scan s = scan_of(text, len), line;
	struct proc_mounts list = {0};
	int r = 0;

	while (r == 0 && scan_line(&s, &line))
		r = add_mount(&list, &line);
	if (r < 0) {
		proc_mounts_release(&list);
		return r;
	}
	*ret = list;
	return 0;
}

int proc_mounts(int dir, struct proc_mounts *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "mountinfo", proc_mounts_parse, err, ret);
}

void proc_mounts_release(struct proc_mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		mount_release(&m->mount[i]);
	free(m->mount);
	*m = (struct proc_mounts){0};
}

const struct proc_mount *proc_mounts_find(const struct proc_mounts *m, int id)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->mount[i].id == id)
			return &m->mount[i];
	return NULL;
}
