/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* --external-pipe of dump and restore. */
#include "cli.h"

#include <limits.h>
#include <string.h>

/* "pipe:[123]=": returns what is behind it, text itself where no pipe is named, NULL if it is wrong. */
static const char *parse_which(const char *text, uint64_t *ret_ino)
{
	char digits[24];
	size_t len;

	if (strncmp(text, "pipe:[", 6) != 0)
		return text;
	len = strcspn(text + 6, "]");
	if (len >= sizeof(digits) || strncmp(text + 6 + len, "]=", 2) != 0)
		return NULL;
	memcpy(digits, text + 6, len);
	digits[len] = '\0';
	return cli_parse_number(digits, 1, UINT64_MAX, ret_ino) < 0 ? NULL : text + 6 + len + 2;
}

static int parse_what(const char *text, struct cpx_external_pipe *p)
{
	uint64_t fd;

	p->fd = -1;
	if (strcmp(text, "null") == 0) {
		p->what = CPX_EXTERNAL_NULL;
		return 0;
	}
	if (strncmp(text, "file:/", 6) == 0) {
		p->what = CPX_EXTERNAL_FILE;
		p->path = text + 5;
		return strlen(p->path) < PATH_MAX ? 0 : -1;
	}
	p->what = CPX_EXTERNAL_INHERIT;
	if (strcmp(text, "inherit") == 0)
		return 0;
	if (strncmp(text, "inherit:", 8) != 0 || cli_parse_number(text + 8, 0, INT_MAX, &fd) < 0)
		return -1;
	p->fd = fd;
	return 0;
}

int cli_add_pipe(const struct cli_command *c, struct cli_pipes *pipes, const char *text)
{
	struct cpx_external_pipe p = {0};
	const char *what = parse_which(text, &p.ino);

	if (!what || parse_what(what, &p) < 0) {
		cli_usage_error(c,
				"--external-pipe is [pipe:[N]=]inherit[:FD], file:/PATH or null, not '%s'",
				text);
		return -1;
	}
	if (pipes->n == sizeof(pipes->item) / sizeof(pipes->item[0])) {
		cli_usage_error(c, "--external-pipe is given too often");
		return -1;
	}
	pipes->item[pipes->n++] = p;
	return 0;
}
