/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The logger: one sink set by the command line (or a libcpx user); silent by default. */
#ifndef CPX_BASE_LOG_H
#define CPX_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

typedef void log_sink_fn(enum log_level level, const char *line, void *data);

/* sink NULL silences. Lines have no newline and no "cpx: ". */
void log_set_sink(log_sink_fn *sink, void *data, enum log_level max_level);

void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
