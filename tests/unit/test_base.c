/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors gather context and keep their cause; refusals survive lack of memory; arrays grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/util.h"

static void test_context(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(err_sys(&err, -ENOENT, "cannot open '%s'", "/x"), -ENOENT);
	assert_int_equal(err_context(&err, "fd %d (regular)", 5), -ENOENT);
	assert_int_equal(err_context(&err, "task %d (%s)", 42, "sh"), -ENOENT);
	assert_string_equal(err.msg, "task 42 (sh): fd 5 (regular): cannot open '/x': "
				     "No such file or directory");
	assert_int_equal(err_set(&err, -EINVAL, "new"), -EINVAL);
	assert_string_equal(err.msg, "new");
	assert_int_equal(err_set(NULL, -EINVAL, "nowhere"), -EINVAL);
	assert_int_equal(err_sys(NULL, -EPERM, "nowhere"), -EPERM);
	assert_int_equal(err_nomem(&err), -ENOMEM);
	assert_string_equal(err.msg, "out of memory");
}

/* What does not fit is the outermost context. */
static void test_cause_is_kept(void **state)
{
	char big[2000];
	struct err err = ERR_INIT;
	static const char cause[] = "the cause: No space left on device";

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_sys(&err, -ENOSPC, "the cause");
	for (int i = 0; i < 3; i++)
		err_context(&err, "%s", big);
	assert_true(strlen(err.msg) < sizeof(err.msg));
	assert_string_equal(err.msg + strlen(err.msg) - strlen(cause), cause);
	err_sys(&err, -ENOSPC, "%s", big);
	assert_non_null(strstr(err.msg, ": No space left on device"));
	err_set(&err, -EIO, "%s", big);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

/* Cut where a character begins; control characters never pass. */
static void test_text(void **state)
{
	char big[1100];
	struct err err = ERR_INIT;

	for (size_t i = 0; i + 2 < sizeof(big); i += 2)
		memcpy(big + i, "\xc3\xa4", 2); /* two bytes of one character */
	big[sizeof(big) - 2] = '\0';
	err_set(&err, -EIO, "%s", big);
	assert_int_equal(strlen(err.msg) % 2, 0);
	err_set(&err, -EIO, "a\nb\033c");
	assert_string_equal(err.msg, "a?b?c");
}

static void test_refusals(void **state)
{
	struct refusals list = {0};
	char line[128];

	for (int i = 0; i < 100; i++)
		assert_int_equal(refuse(&list, i, i % 2 ? "redis-server" : "",
					i % 3 ? "fd 7" : NULL, "cannot be %s", "checkpointed"),
				 0);
	assert_int_equal(list.n, 100);
	refusal_format(&list.item[0], line, sizeof(line));
	assert_string_equal(line, "cannot be checkpointed");
	refusal_format(&list.item[1], line, sizeof(line));
	assert_string_equal(line, "task 1 (redis-server): fd 7: cannot be checkpointed");
	refusal_format(&list.item[2], line, sizeof(line));
	assert_string_equal(line, "task 2: fd 7: cannot be checkpointed");
	refusal_format(&list.item[3], line, sizeof(line));
	assert_string_equal(line, "task 3 (redis-server): cannot be checkpointed");
	refusals_release(&list);
	assert_int_equal(list.n, 0);
	refusals_release(&list);
}

static void test_grow(void **state)
{
	int *array = NULL;
	size_t max = 0;

	for (size_t i = 0; i < 1000; i++) {
		assert_int_equal(grow(&array, &max, i, sizeof(*array)), 0);
		assert_true(max > i);
		array[i] = i;
	}
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(array[i], i);
	assert_int_equal(grow(&array, &max, SIZE_MAX / 2, sizeof(*array)), -ENOMEM);
	assert_int_equal(grow(&array, &max, SIZE_MAX, sizeof(*array)), -ENOMEM);
	assert_int_equal(array[999], 999);
	free(array);
}

static void take_line(enum log_level level, const char *line, void *data)
{
	snprintf(data, 64, "%d %s", level, line);
}

static void test_log(void **state)
{
	char got[64] = "";

	log_warn("nobody listens");
	log_set_sink(take_line, got, LOG_LEVEL_INFO);
	log_debug("not wanted");
	assert_string_equal(got, "");
	log_info("line %d\n", 3);
	assert_string_equal(got, "2 line 3?");
	log_warn("warned");
	assert_string_equal(got, "1 warned");
	log_set_sink(NULL, NULL, LOG_LEVEL_ERROR);
	log_warn("gone");
	assert_string_equal(got, "1 warned");
}

/* However this processor does it, the hashes are those of the library. */
static void test_hash(void **state)
{
	_cleanup_free_ uint8_t *data = malloc(5000);
	XXH3_state_t *ours = XXH3_createState(), *theirs = XXH3_createState();

	assert_non_null(data);
	for (size_t i = 0; i < 5000; i++)
		data[i] = (uint8_t)(i * i >> 3);
	XXH3_64bits_reset(ours);
	XXH3_64bits_reset(theirs);
	for (size_t n = 0; n < 5000; n = n * 3 / 2 + 1) {
		XXH128_hash_t a = XXH3_128bits(data, n), b = (XXH3_128bits)(data, n);

		assert_true(XXH128_isEqual(a, b));
		assert_true(XXH3_64bits(data, n) == (XXH3_64bits)(data, n));
		XXH3_64bits_update(ours, data, n);
		(XXH3_64bits_update)(theirs, data, n);
	}
	assert_true(XXH3_64bits_digest(ours) == XXH3_64bits_digest(theirs));
	XXH3_freeState(ours);
	XXH3_freeState(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_context), cmocka_unit_test(test_cause_is_kept),
		cmocka_unit_test(test_text),	cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_grow),	cmocka_unit_test(test_log),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
