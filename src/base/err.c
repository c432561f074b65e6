/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Error texts and the list of refusals. Pure memory; no kernel interface but strerror(3).
 *
 * A message that does not fit loses the end of its outermost context, never its innermost cause;
 * only a single text longer than the whole buffer is cut at its end.
 */
#include "base/err.h"
#include "base/util.h"

#include <stdarg.h>

static const char incomplete_reason[] = "cannot be listed: out of memory; there are more refusals";

/* Cuts s to at most max bytes without splitting a UTF-8 sequence. */
static void cut_utf8(char *s, size_t max)
{
	if (strlen(s) <= max)
		return;
	while (max > 0 && ((unsigned char)s[max] & 0xc0) == 0x80)
		max--;
	s[max] = '\0';
}

/* One line only: names of files and tasks may hold anything. */
static void flatten(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

/* Puts head in front of what dst holds, cutting head where both do not fit. */
static void prepend(char *dst, size_t size, char *head)
{
	size_t have = strlen(dst), room = size - 1 - have, n;

	cut_utf8(head, room);
	n = strlen(head);
	memmove(dst + n, dst, have + 1);
	memcpy(dst, head, n);
}

__attribute__((format(printf, 3, 0))) static void set_message(struct err *err, int code,
							      const char *fmt, va_list ap)
{
	char text[sizeof(err->msg) + 4];

	vsnprintf(text, sizeof(text), fmt, ap);
	cut_utf8(text, sizeof(err->msg) - 1);
	flatten(text);
	memcpy(err->msg, text, strlen(text) + 1);
	err->code = code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	set_message(err, code, fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	flatten(text);
	err->code = code;
	snprintf(err->msg, sizeof(err->msg), ": %s", strerror(-code));
	prepend(err->msg, sizeof(err->msg), text);
	return code;
}

int err_context(struct err *err, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text) - 2, fmt, ap);
	va_end(ap);
	flatten(text);
	strcat(text, ": ");
	prepend(err->msg, sizeof(err->msg), text);
	return err->code;
}

int err_nomem(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* Out of memory before there was a first item: a constant one, which max == 0 tells apart. */
static int mark_incomplete(struct refusals *list)
{
	static struct refusal incomplete;

	if (list->n == 0) {
		incomplete.object = NULL;
		incomplete.reason = (char *)incomplete_reason;
		list->item = &incomplete;
		list->n = 1;
	} else if (list->n < list->max && list->item[list->n - 1].reason != incomplete_reason) {
		list->item[list->n++] = (struct refusal){.reason = (char *)incomplete_reason};
	}
	return -ENOMEM;
}

static bool is_constant(const struct refusals *list)
{
	return list->n && list->max == 0;
}

int refuse(struct refusals *list, pid_t pid, const char *comm, const char *object, const char *fmt,
	   ...)
{
	struct refusal r = {.pid = pid};
	va_list ap;

	if (is_constant(list) || grow(&list->item, &list->max, list->n + 1, sizeof(r)) < 0)
		return mark_incomplete(list);
	if (comm)
		snprintf(r.comm, sizeof(r.comm), "%s", comm);
	va_start(ap, fmt);
	if (vasprintf(&r.reason, fmt, ap) < 0)
		r.reason = NULL;
	va_end(ap);
	r.object = strdup(object ? object : "");
	if (!r.reason || !r.object) {
		free(r.reason);
		free(r.object);
		return mark_incomplete(list);
	}
	list->item[list->n++] = r;
	return 0;
}

void refusals_release(struct refusals *list)
{
	if (!is_constant(list)) {
		for (size_t i = 0; i < list->n; i++) {
			if (list->item[i].reason != incomplete_reason)
				free(list->item[i].reason);
			free(list->item[i].object);
		}
		free(list->item);
	}
	*list = (struct refusals){0};
}

void refusal_format(const struct refusal *r, char *buf, size_t size)
{
	char task[64] = "";
	bool has_object = r->object && *r->object;

	if (r->pid && *r->comm)
		snprintf(task, sizeof(task), "task %d (%s): ", r->pid, r->comm);
	else if (r->pid)
		snprintf(task, sizeof(task), "task %d: ", r->pid);
	snprintf(buf, size, "%s%s%s%s", task, has_object ? r->object : "", has_object ? ": " : "",
		 r->reason);
	flatten(buf);
}
