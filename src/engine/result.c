/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns struct cpx_result: what the caller of libcpx learns about how a call ended. */
#include "engine/result.h"
#include "base/log.h"
#include "base/util.h"

#include <stdarg.h>

static int copy_refusals(struct cpx_result *r, const struct refusals *list)
{
	r->refusal = calloc(list->n, sizeof(*r->refusal));
	if (!r->refusal)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		char line[2048];

		refusal_format(&list->item[i], line, sizeof(line));
		r->refusal[i].pid = list->item[i].pid;
		r->refusal[i].text = strdup(line);
		if (!r->refusal[i].text)
			return -ENOMEM;
		r->nrefusals++;
	}
	return 0;
}

int result_set(struct cpx_result *r, int ret, const struct err *err,
	       const struct refusals *refusals)
{
	struct err nomem = ERR_INIT;

	if (refusals && refusals->n > 0) {
		r->outcome = CPX_REFUSED;
		if (copy_refusals(r, refusals) < 0 && ret == 0) {
			ret = err_nomem(&nomem);
			err = &nomem;
		}
	}
	if (ret < 0) {
		r->outcome = CPX_FAILED;
		snprintf(r->error, sizeof(r->error), "%s",
			 err && err->code ? err->msg : strerror(-ret));
		return ret;
	}
	return r->outcome == CPX_REFUSED ? -ENOTSUP : 0;
}

int result_usage(struct cpx_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->error, sizeof(r->error), fmt, ap);
	va_end(ap);
	r->outcome = CPX_USAGE;
	return -EINVAL;
}

void cpx_result_release(struct cpx_result *r)
{
	for (size_t i = 0; i < r->nrefusals; i++)
		free(r->refusal[i].text);
	free(r->refusal);
	free(r->clone);
	*r = (struct cpx_result)CPX_RESULT_INIT;
}

/* The logger and the public API have enums of their own, so that neither depends on the other. */
static struct {
	cpx_log_fn *fn;
	void *data;
} public_log;

static void forward_line(enum log_level level, const char *line, void *data)
{
	static const enum cpx_log_level public_level[] = {
		[LOG_LEVEL_ERROR] = CPX_LOG_ERROR,
		[LOG_LEVEL_WARN] = CPX_LOG_WARN,
		[LOG_LEVEL_INFO] = CPX_LOG_INFO,
		[LOG_LEVEL_DEBUG] = CPX_LOG_DEBUG,
	};

	public_log.fn(public_level[level], line, public_log.data);
}

void cpx_set_log(cpx_log_fn *fn, void *data, enum cpx_log_level max_level)
{
	public_log.fn = fn;
	public_log.data = data;
	log_set_sink(fn ? forward_line : NULL, NULL, (enum log_level)max_level);
}
