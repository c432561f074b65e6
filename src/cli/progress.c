/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The progress bar: at most ten times a second, and only for what takes longer than that. */
#include "cli.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR_WIDTH = 30, INTERVAL_NS = 100000000 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void draw(const char *stage, uint64_t done, uint64_t total)
{
	char bar[BAR_WIDTH + 1] = "", have[32], all[32];
	unsigned filled = total ? (done < total ? done : total) * BAR_WIDTH / total : 0;

	memset(bar, '#', filled);
	memset(bar + filled, '.', BAR_WIDTH - filled);
	cli_format_bytes(done, have, sizeof(have));
	if (total)
		fprintf(stderr, "\r\033[K%s [%s] %s of %s", stage, bar, have,
			cli_format_bytes(total, all, sizeof(all)));
	else
		fprintf(stderr, "\r\033[K%s %s", stage, done ? have : "");
	fflush(stderr);
}

static void update(void *data, const char *stage, uint64_t done, uint64_t total)
{
	struct cli_progress *p = data;
	uint64_t now = now_ns();

	if (now - p->drawn_at_ns < INTERVAL_NS)
		return;
	p->drawn_at_ns = now;
	p->is_shown = true;
	draw(stage, done, total);
}

struct cpx_progress cli_progress_start(struct cli_progress *p, const struct cli_common *common)
{
	*p = (struct cli_progress){.drawn_at_ns = now_ns()};
	if (common->quiet || !isatty(STDERR_FILENO))
		return (struct cpx_progress){0};
	return (struct cpx_progress){.update = update, .data = p};
}

void cli_progress_end(struct cli_progress *p)
{
	if (!p->is_shown)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	p->is_shown = false;
}
