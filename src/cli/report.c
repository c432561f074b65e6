/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How results, errors and refusals look: lines on stderr that begin with "cpx: ", JSON on stdout.
 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

void cli_error(const char *fmt, ...)
{
	char line[1536];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fprintf(stderr, "cpx: %s\n", line);
}

static void print_log_line(enum cpx_log_level level, const char *line, void *data)
{
	fprintf(stderr, "cpx: %s%s\n", level == CPX_LOG_WARN ? "warning: " : "", line);
}

void cli_set_log(const struct cli_common *common)
{
	if (common->quiet)
		return;
	cpx_set_log(print_log_line, NULL,
		    common->verbose > 1	   ? CPX_LOG_DEBUG
		    : common->verbose == 1 ? CPX_LOG_INFO
					   : CPX_LOG_WARN);
}

int cli_report(const struct cpx_result *r)
{
	for (size_t i = 0; i < r->nrefusals; i++)
		cli_error("%s", r->refusal[i].text);
	if (r->error[0])
		cli_error("%s", r->error);
	return r->outcome;
}

/* Bytes of names in messages need not be UTF-8, but JSON strings must be. */
json_t *cli_json_text(const char *text)
{
	json_t *s = json_string(text);
	char clean[2048];
	size_t n = 0;

	if (s)
		return s;
	for (; text[n] && n < sizeof(clean) - 1; n++)
		clean[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
	clean[n] = '\0';
	return json_string(clean);
}

json_t *cli_json(const struct cpx_result *r)
{
	static const char *const outcome[] = {
		[CPX_DONE] = "done",
		[CPX_FAILED] = "failed",
		[CPX_USAGE] = "usage",
		[CPX_REFUSED] = "refused",
	};
	json_t *object = json_object(), *list = json_array();

	json_object_set_new(object, "outcome", json_string(outcome[r->outcome]));
	if (r->error[0])
		json_object_set_new(object, "error", cli_json_text(r->error));
	for (size_t i = 0; i < r->nrefusals; i++) {
		json_t *item = json_object();

		json_object_set_new(item, "pid", json_integer(r->refusal[i].pid));
		json_object_set_new(item, "text", cli_json_text(r->refusal[i].text));
		json_array_append_new(list, item);
	}
	json_object_set_new(object, "refusals", list);
	return object;
}

int cli_finish_stdout(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	cli_error("standard output: cannot write: %s", strerror(errno));
	return CPX_FAILED;
}

int cli_print_json(json_t *object, int status)
{
	if (json_dumpf(object, stdout, JSON_INDENT(2)) < 0)
		status = CPX_FAILED;
	json_decref(object);
	putchar('\n');
	return cli_finish_stdout(status);
}

const char *cli_format_bytes(uint64_t bytes, char *buf, size_t size)
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	double value = bytes;
	size_t i = 0;

	for (; value >= 1024 && i < sizeof(unit) / sizeof(unit[0]) - 1; i++)
		value /= 1024;
	snprintf(buf, size, "%.*f %s", i > 0 && value < 100, value, unit[i]);
	return buf;
}
