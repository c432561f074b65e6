/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of options: getopt_long(3) and the help are both made from them. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 32, KEY_HELP = 'h', KEY_JSON = 0x10000 };

static const struct cli_option common_option[] = {
	{KEY_JSON, "json", NULL, "print one JSON object of results on standard output"},
	{'q', "quiet", NULL, "print errors only"},
	{'v', "verbose", NULL, "print what is done; twice for debugging"},
	{KEY_HELP, "help", NULL, "print this help"},
	{0},
};

struct getopt_tables {
	struct option long_option[MAX_OPTIONS + 1];
	char short_option[2 * MAX_OPTIONS + 2];
	size_t n;
};

static void add_options(struct getopt_tables *t, const struct cli_option *o)
{
	for (; o->name && t->n < MAX_OPTIONS; o++, t->n++) {
		char *s = t->short_option + strlen(t->short_option);

		t->long_option[t->n] = (struct option){
			.name = o->name,
			.has_arg = !o->arg	    ? no_argument
				   : o->arg[0] == '[' ? optional_argument
						      : required_argument,
			.val = o->key,
		};
		if (o->key > UCHAR_MAX)
			continue;
		*s++ = o->key;
		if (o->arg)
			*s = ':';
	}
}

static void print_options(const struct cli_option *o)
{
	for (; o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%c%c%s --%s%s%s", o->key > UCHAR_MAX ? ' ' : '-',
			 o->key > UCHAR_MAX ? ' ' : o->key, o->key > UCHAR_MAX ? " " : ",", o->name,
			 o->arg && o->arg[0] != '[' ? "=" : "", o->arg ? o->arg : "");
		printf("  %-28s %s\n", left, o->help);
	}
}

static int print_help(const struct cli_command *c)
{
	printf("Usage: cpx %s [OPTION]... %s\n%s.\n", c->name, c->operand, c->summary);
	if (c->details)
		printf("\n%s\n", c->details);
	printf("\nOptions:\n");
	print_options(c->option);
	print_options(common_option);
	printf("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 refused. See cpx-%s(1).\n",
	       c->name);
	return cli_finish_stdout(CPX_DONE);
}

int cli_usage_error(const struct cli_command *c, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cli_error("%s: %s (try 'cpx %s --help')", c->name, text, c->name);
	return CPX_USAGE;
}

static int bad_option(const struct cli_command *c, int answer, char **argv)
{
	const char *option = argv[optind - 1];
	char letter[3] = {'-', optopt, '\0'};

	if (optopt > 0 && optopt <= UCHAR_MAX && strncmp(option, "--", 2) != 0)
		option = letter;
	if (answer == ':')
		return cli_usage_error(c, "option '%s' needs an argument", option);
	if (optopt != 0 && option != letter)
		return cli_usage_error(c, "option '%s' takes no argument", option);
	return cli_usage_error(c, "unknown or ambiguous option '%s'", option);
}

static bool set_common(struct cli_common *common, int key)
{
	switch (key) {
	case KEY_JSON:
		common->json = true;
		return true;
	case 'q':
		common->quiet = true;
		return true;
	case 'v':
		common->verbose++;
		return true;
	default:
		return false;
	}
}

static int take_operand(const struct cli_command *c, int argc, char **argv,
			const char **ret_operand)
{
	if (optind == argc)
		return cli_usage_error(c, "%s is missing", c->operand);
	if (optind + 1 < argc)
		return cli_usage_error(c, "one %s expected, but also given: '%s'", c->operand,
				       argv[optind + 1]);
	*ret_operand = argv[optind];
	return CLI_GO_ON;
}

int cli_parse(const struct cli_command *c, int argc, char **argv,
	      int (*set)(void *data, int key, const char *arg), void *data,
	      struct cli_common *ret_common, const char **ret_operand)
{
	struct getopt_tables tables = {.short_option = ":"};
	int key;

	*ret_common = (struct cli_common){0};
	add_options(&tables, c->option);
	add_options(&tables, common_option);
	opterr = 0;
	while ((key = getopt_long(argc, argv, tables.short_option, tables.long_option, NULL)) !=
	       -1) {
		if (key == KEY_HELP)
			return print_help(c);
		if (key == '?' || key == ':')
			return bad_option(c, key, argv);
		if (!set_common(ret_common, key) && set(data, key, optarg) < 0)
			return CPX_USAGE;
	}
	return take_operand(c, argc, argv, ret_operand);
}

int cli_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)*text)) /* strtoull takes blanks and signs */
		return -1;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value < min || value > max)
		return -1;
	*ret = value;
	return 0;
}

int cli_parse_size(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, toupper((unsigned char)text[len - 1])) : NULL;
	unsigned shift = unit && *unit ? 10 * (unit - units + 1) : 0;
	char digits[24];
	uint64_t value;

	if (len >= sizeof(digits))
		return -1;
	memcpy(digits, text, len + 1);
	if (shift)
		digits[len - 1] = '\0';
	if (cli_parse_number(digits, 0, UINT64_MAX >> shift, &value) < 0)
		return -1;
	*ret = value << shift;
	return 0;
}

/* Digits before and after a point, in thousandths. */
static int parse_thousandths(const char *text, size_t len, uint64_t *ret)
{
	uint64_t value = 0, unit = 1000;
	bool has_point = false;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' && !has_point && len > 1) {
			has_point = true;
			continue;
		}
		if (!isdigit((unsigned char)text[i]) || value > UINT64_MAX / 20 || (has_point && unit == 1))
			return -1;
		value = value * 10 + (text[i] - '0');
		unit /= has_point ? 10 : 1;
	}
	*ret = value * unit;
	return len && value <= UINT64_MAX / 1000 / 3600000 ? 0 : -1;
}

int cli_parse_time(const char *text, uint64_t *ret_ms)
{
	static const struct {
		char letter;
		unsigned seconds;
	} unit[] = {{'s', 1}, {'m', 60}, {'h', 3600}};
	size_t len = strlen(text);
	unsigned seconds = 1;

	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]) && len; i++)
		if (text[len - 1] == unit[i].letter) {
			seconds = unit[i].seconds;
			len--;
			break;
		}
	if (parse_thousandths(text, len, ret_ms) < 0)
		return -1;
	*ret_ms *= seconds;
	return 0;
}

int cli_parse_pid(const char *text, pid_t *ret)
{
	uint64_t value;

	if (cli_parse_number(text, 1, INT_MAX, &value) < 0)
		return -1;
	*ret = value;
	return 0;
}

int cli_parse_signal(const char *text)
{
	uint64_t number;

	if (cli_parse_number(text, 1, SIGRTMAX, &number) == 0)
		return number;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (int i = 1; i < SIGRTMAX; i++)
		if (sigabbrev_np(i) && strcasecmp(text, sigabbrev_np(i)) == 0)
			return i;
	return 0;
}

int cli_set_jobs(const struct cli_command *c, unsigned *ret, const char *text)
{
	uint64_t n;

	if (cli_parse_number(text, 1, 1024, &n) < 0) {
		cli_usage_error(c, "--jobs is a number from 1 to 1024, not '%s'", text);
		return -1;
	}
	*ret = n;
	return 0;
}

int cli_add_parent(const struct cli_command *c, struct cli_parents *parents, const char *file)
{
	if (parents->n == sizeof(parents->file) / sizeof(parents->file[0])) {
		cli_usage_error(c, "--parent is given too often");
		return -1;
	}
	parents->file[parents->n++] = file;
	return 0;
}

struct cpx_parents cli_parents(const struct cli_parents *parents)
{
	return (struct cpx_parents){parents->file, parents->n};
}

static const struct {
	const char *name;
	enum cpx_compress compress;
	unsigned max_level; /* 0: has none */
} method[] = {
	{"none", CPX_COMPRESS_NONE, 0},
	{"lz4", CPX_COMPRESS_LZ4, 0},
	{"zstd", CPX_COMPRESS_ZSTD, 22},
};

int cli_set_compress(const struct cli_command *c, enum cpx_compress *ret, int *ret_level, const char *text)
{
	size_t len = strcspn(text, ":");
	uint64_t level = 0;

	for (size_t i = 0; i < sizeof(method) / sizeof(method[0]); i++) {
		if (strncmp(method[i].name, text, len) != 0 || method[i].name[len])
			continue;
		if (text[len] &&
		    (!method[i].max_level ||
		     cli_parse_number(text + len + 1, 1, method[i].max_level, &level) < 0))
			break;
		*ret = method[i].compress;
		*ret_level = level;
		return 0;
	}
	cli_usage_error(c, "--compress is none, lz4 or zstd[:1-22], not '%s'", text);
	return -1;
}
