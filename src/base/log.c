/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The logger. Owns the one sink (the only mutable global besides the signal flag); formats a line
 * and hands it over. Lines longer than the buffer are cut.
 */
#include "base/log.h"
#include "base/util.h"

#include <stdarg.h>

static struct {
	log_sink_fn *sink;
	void *data;
	enum log_level max_level;
} logger;

void log_set_sink(log_sink_fn *sink, void *data, enum log_level max_level)
{
	logger.sink = sink;
	logger.data = data;
	logger.max_level = max_level;
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *fmt,
							   va_list ap)
{
	char line[1024];
	int saved = errno;

	if (!logger.sink || level > logger.max_level)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	logger.sink(level, line, logger.data);
	errno = saved;
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_WARN, fmt, ap);
	va_end(ap);
}

void log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_INFO, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_LEVEL_DEBUG, fmt, ap);
	va_end(ap);
}
