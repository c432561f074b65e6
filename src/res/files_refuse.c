/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Refusals at dump that name a descriptor: "task 42 (name): fd 5 (kind): why". */
#include "res/files.h"

#include <stdarg.h>

#define IN_FLIGHT (-2) /* its number says nothing to anybody */

__attribute__((format(printf, 6, 0))) static int refuse_fd(struct dump_ctx *c,
							   const struct tracee *t, int fd,
							   const char *kind, const char *link,
							   const char *fmt, va_list ap)
{
	char object[512], reason[5120];

	if (fd == IN_FLIGHT)
		snprintf(object, sizeof(object), "descriptor in a message (%s)", kind);
	else if (fd >= 0)
		snprintf(object, sizeof(object), "fd %d (%s)", fd, kind);
	else
		snprintf(object, sizeof(object), "mapping of %s", link ? link : kind);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	return refuse(c->refusals, t->pid, t->comm, object, "%s", reason);
}

int files_refuse(struct dump_ctx *c, const struct fd_probe *p, const char *kind, const char *fmt,
		 ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = refuse_fd(c, p->t, p->is_in_flight ? IN_FLIGHT : p->fd, kind, p->link, fmt, ap);
	va_end(ap);
	return r;
}

int files_refuse_entry(struct dump_ctx *c, const Cpx__File *f, const char *kind, const char *fmt,
		       ...)
{
	const struct file_entry *e = files_entry(c, f);
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = refuse_fd(c, e->t, e->in_flight >= 0 ? IN_FLIGHT : e->fd, kind, NULL, fmt, ap);
	va_end(ap);
	return r;
}
