/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* docs/limits.md says of each kind of object that it is carried, or refused, and of nothing else: its
 * tables have the entries of the registries and of the schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "res/attr.h"
#include "res/files.h"

#include <ctype.h>

#define LIMITS TEST_SOURCE_DIR "/../../docs/limits.md"

struct names {
	char name[64][64];
	size_t n;
};

static void add(struct names *l, const char *name, size_t len)
{
	assert_in_range(l->n, 0, ARRAY_SIZE(l->name) - 1);
	assert_in_range(len, 1, sizeof(l->name[0]) - 1);
	snprintf(l->name[l->n++], sizeof(l->name[0]), "%.*s", (int)len, name);
}

static bool has(const struct names *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->name[i], name) == 0)
			return true;
	return false;
}

/* "| name | text |": not the head of the table, nor the line below it. */
static void add_row(struct names *l, const char *line, unsigned *row)
{
	const char *end = strstr(line + 1, " |");

	if (line[0] == '|' && ++*row > 2 && end)
		add(l, line + 2, end - line - 2);
}

static struct names read_table(const char *title)
{
	_cleanup_fclose_ FILE *f = fopen(LIMITS, "re");
	struct names l = {0};
	bool is_in = false;
	unsigned row = 0;
	char line[4096];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#')
			is_in = strcmp(line, title) == 0;
		else if (is_in)
			add_row(&l, line, &row);
	}
	assert_int_not_equal(l.n, 0);
	return l;
}

/* Each of one is in the other, once. */
static void compare(const char *title, const struct names *want)
{
	struct names have = read_table(title);

	for (size_t i = 0; i < want->n; i++)
		if (!has(&have, want->name[i]))
			fail_msg("%s: no row '%s' below '%s'", LIMITS, want->name[i], title);
	for (size_t i = 0; i < have.n; i++)
		if (!has(want, have.name[i]))
			fail_msg("%s: '%s' below '%s' is in no registry", LIMITS, have.name[i],
				 title);
	assert_int_equal(have.n, want->n);
}

static void test_descriptors(void **state)
{
	struct names want = {0};

	for (size_t i = 0; file_registry[i]; i++)
		if (file_registry[i] != &unsupported_file_ops)
			add(&want, file_registry[i]->name, strlen(file_registry[i]->name));
	compare("### Carried: descriptors", &want);
}

static bool is_carried(const char *name)
{
	for (size_t i = 0; file_registry[i]; i++)
		if (strcmp(file_registry[i]->name, name) == 0)
			return true;
	return false;
}

/* But those sockets of which only some are refused. */
static void test_refused(void **state)
{
	struct names want = {0};
	const char *name;

	for (size_t i = 0; (name = unsupported_kind(i)); i++)
		if (!is_carried(name) && !has(&want, name))
			add(&want, name, strlen(name));
	compare("### Refused: kinds of descriptors", &want);
}

static void test_attributes(void **state)
{
	struct names want = {0};

	for (size_t i = 0; attr_registry[i]; i++)
		add(&want, attr_registry[i]->name, strlen(attr_registry[i]->name));
	compare("### Carried: attributes", &want);
}

/* SHM_ANON is "shm anon". */
static struct names enumerators(const ProtobufCEnumDescriptor *d)
{
	struct names l = {0};

	for (unsigned i = 0; i < d->n_values; i++) {
		char *s = l.name[l.n];

		add(&l, d->values[i].name, strlen(d->values[i].name));
		for (; *s; s++)
			*s = *s == '_' ? ' ' : tolower((unsigned char)*s);
	}
	return l;
}

static void test_mappings(void **state)
{
	struct names want = enumerators(&cpx__vma__kind__descriptor);

	compare("### Carried: mappings", &want);
}

static void test_content(void **state)
{
	struct names want = enumerators(&cpx__object__type__descriptor);

	compare("### Carried: content", &want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_mappings),
		cmocka_unit_test(test_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
