/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx_info() and cpx_verify() through the public API: what they print and how they fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "cpx.h"
#include "sample.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/mman.h>

#define GOOD(name) GOLDEN_DIR "/good/" name ".image"
#define BAD(name)  GOLDEN_DIR "/bad/" name ".image"

/* free() the result. */
static char *info(const char *file, bool json)
{
	struct cpx_result r = CPX_RESULT_INIT;
	size_t size;
	char *text;
	FILE *out = open_memstream(&text, &size);

	if (cpx_info(file, NULL, json, out, &r) < 0)
		fail_msg("%s", r.error);
	assert_int_equal(r.outcome, CPX_DONE);
	assert_int_equal(r.tasks, 3);
	cpx_result_release(&r);
	fclose(out);
	return text;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in:\n%s", part, text);
}

static void test_text(void **state)
{
	_cleanup_free_ char *text = info(GOOD("zstd"), false);

	assert_has(text, "format 1");
	assert_has(text, "3 tasks, 3 threads");
	assert_has(text, "\n  100 sample  2 threads, 20 KiB, /usr/bin/sample\n");
	assert_has(text, "\n    102 sample  1 thread, 4.0 KiB");
	assert_has(text, "\n      103 gone  zombie, exit status 3\n");
	assert_has(text, "memory      28 KiB");
	assert_has(text, "unix socket");
}

static json_t *parse(const char *file)
{
	_cleanup_free_ char *text = info(file, true);
	json_error_t error;
	json_t *root = json_loads(text, 0, &error);

	if (!root)
		fail_msg("line %d: %s", error.line, error.text);
	return root;
}

static void test_json(void **state)
{
	static const char *const arrays[] = {"tasks",	  "mms",   "objects",
					     "fd_tables", "files", "chunks"};
	static const size_t sizes[] = {3, 2, 1, 2, 5, 6};
	json_t *root = parse(GOOD("lz4")), *task, *thread, *regs;

	for (size_t i = 0; i < ARRAY_SIZE(arrays); i++)
		assert_int_equal(json_array_size(json_object_get(root, arrays[i])), sizes[i]);
	assert_int_equal(json_string_length(json_object_get(root, "id")), 32);
	task = json_array_get(json_object_get(root, "tasks"), 0);
	assert_string_equal(json_string_value(json_object_get(task, "comm")), "sample");
	assert_string_equal(json_string_value(json_object_get(task, "state")), "RUNNING");
	thread = json_array_get(json_object_get(task, "thread"), 1);
	assert_int_equal(json_integer_value(json_object_get(thread, "tid")), 101);
	regs = json_object_get(json_object_get(thread, "gp_regs"), "hex");
	assert_int_equal(json_string_length(regs), 2 * 27 * 8);
	task = json_array_get(json_object_get(root, "tasks"), 2);
	assert_null(json_object_get(task, "fs"));
	json_decref(root);
}

/* path: how to open the image while the descriptor that is returned stays open. */
static int store(const struct sample *s, char path[64])
{
	struct image_writer_options o = {CODEC_LZ4};
	struct err err = ERR_INIT;
	int fd = memfd_create("image", MFD_CLOEXEC);

	snprintf(path, 64, "/proc/self/fd/%d", fd);
	assert_int_equal(sample_write(s, fd, &o, &err), 0);
	return fd;
}

/* Names that would steer a terminal, numbers that JSON readers cannot hold, bytes that are no text.
 */
static void test_hostile_text(void **state)
{
	Cpx__Rlimit limit = CPX__RLIMIT__INIT, *limits[1] = {&limit};
	struct sample s;
	char path[64];

	sample_init(&s);
	s.root.comm = (ProtobufCBinaryData){7, (uint8_t *)"a\033[2Jb\n"};
	s.child.comm = (ProtobufCBinaryData){3, (uint8_t *)"\xff\xfe"
							   "x"};
	limit.soft = limit.hard = UINT64_MAX;
	s.root.n_rlimit = 1;
	s.root.rlimit = limits;
	_cleanup_close_ int fd = store(&s, path);
	assert_true(fd >= 0);
	_cleanup_free_ char *text = info(path, false);
	json_t *root = parse(path), *task = json_array_get(json_object_get(root, "tasks"), 0);

	assert_null(strchr(text, '\033'));
	assert_has(text, "a?[2Jb?");
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(task, "comm"), "hex")),
		"611b5b324a620a");
	task = json_array_get(json_object_get(task, "rlimit"), 0);
	assert_string_equal(json_string_value(json_object_get(task, "hard")),
			    "18446744073709551615");
	task = json_array_get(json_object_get(root, "tasks"), 1);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(task, "comm"), "hex")), "fffe78");
	json_decref(root);
}

/* A tree far deeper than any stack of calls, printed and checked. */
static void test_deep_tree(void **state)
{
	enum { DEPTH = 20000 };
	_cleanup_free_ Cpx__Task *zombie = calloc(DEPTH, sizeof(*zombie));
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	struct cpx_result r = CPX_RESULT_INIT;
	struct image_writer_options o = {CODEC_LZ4};
	struct err err = ERR_INIT;
	struct image_writer *w;
	struct sample s;
	char path[64];
	uint64_t size;

	sample_init(&s);
	assert_int_equal(image_writer_new(fd, &o, &w, &err), 0);
	assert_int_equal(sample_write_records(&s, w, &err), 0);
	for (uint32_t i = 0; i < DEPTH; i++) {
		zombie[i] = s.child;
		s.mm[1].id = 1000 + i;
		zombie[i].mm = s.mm[1].id;
		s.mm[1].pid = zombie[i].pid = 1000 + i;
		zombie[i].ppid = i ? 999 + i : 102;
		s.thread[2].tid = 1000 + i;
		assert_int_equal(image_write_record(w, RECORD_MM, &s.mm[1].base, &err), 0);
		assert_int_equal(image_write_record(w, RECORD_TASK, &zombie[i].base, &err), 0);
	}
	assert_int_equal(image_writer_seal(w, &size, &err), 0);
	image_writer_free(w);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FILE *out = fopen("/dev/null", "we");
	assert_int_equal(cpx_info(path, NULL, false, out, &r), 0);
	assert_int_equal(r.tasks, DEPTH + 3);
	fclose(out);
	cpx_result_release(&r);
}

static void test_errors(void **state)
{
	static const struct {
		const char *file, *error;
	} cases[] = {
		{BAD("newer"),
		 BAD("newer") ": image has format version 2, newer than this cpx reads (1)"},
		{BAD("foreign"), BAD("foreign") ": not a cpx image"},
		{BAD("flipped-chunk"),
		 BAD("flipped-chunk") ": image is corrupt: wrong checksum of a chunk"},
		{"/nonexistent", "/nonexistent: cannot open: No such file or directory"},
		{"/tmp", "/tmp: is a directory, not a cpx image"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cpx_result r = CPX_RESULT_INIT;

		assert_true(cpx_verify(cases[i].file, NULL, &r) < 0);
		assert_int_equal(r.outcome, CPX_FAILED);
		assert_string_equal(r.error, cases[i].error);
		cpx_result_release(&r);
	}
}

static void test_layers(void **state)
{
	_cleanup_free_ char *text = info(GOOD("delta"), false);

	assert_has(text, "\nbuilds on   7468652062617365206f6620626f7468, " GOOD("base") "\n");
	assert_has(text, "\nmemory      36 KiB, stored in 13 KiB");
	assert_has(text, "; 12 KiB of it in the images that it builds on; 8.0 KiB shared");
}

static void check_missing(const char *file, const struct cpx_parents *parents, const char *why)
{
	struct cpx_result r = CPX_RESULT_INIT;
	char line[300];

	snprintf(line, sizeof(line), "%s: builds on image 7468652062617365206f6620626f7468, which is "
		 "missing (%s; see --parent)", file, why);
	assert_int_equal(cpx_verify(file, parents, &r), -ENOTSUP);
	assert_int_equal(r.outcome, CPX_REFUSED);
	assert_string_equal(r.refusal[0].text, line);
	cpx_result_release(&r);
}

/* Alone, the delta can be looked at and nothing else. Elsewhere, its parent has to be named. */
static void test_missing_parent(void **state)
{
	static const char *const named[] = {GOOD("lz4"), GOOD("base")};
	const struct cpx_parents wrong = {named, 1}, right = {named, 2};
	char folder[] = "/tmp/cpx-test-XXXXXX", path[64], line[300];
	struct cpx_result r = CPX_RESULT_INIT;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/delta", folder);
	assert_int_equal(symlink(GOOD("delta"), path), 0);
	_cleanup_free_ char *text = info(path, false);
	assert_has(text, "\nincomplete  builds on image 7468652062617365206f6620626f7468, which is missing");
	assert_has(text, "; 40 KiB of it in earlier layers");
	snprintf(line, sizeof(line), "'%s/base.image': No such file or directory", folder);
	check_missing(path, NULL, line);
	check_missing(path, &wrong, "'" GOOD("lz4") "': is another image");
	assert_int_equal(cpx_verify(path, &right, &r), 0);
	cpx_result_release(&r);
	unlink(path);
	rmdir(folder);
}

static void test_full_output(void **state)
{
	struct cpx_result r = CPX_RESULT_INIT;
	FILE *out = fopen("/dev/full", "we");

	assert_true(cpx_info(GOOD("lz4"), NULL, true, out, &r) < 0);
	assert_int_equal(r.outcome, CPX_FAILED);
	cpx_result_release(&r);
	fclose(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	     cmocka_unit_test(test_json),
		cmocka_unit_test(test_layers),	     cmocka_unit_test(test_missing_parent),
		cmocka_unit_test(test_hostile_text), cmocka_unit_test(test_deep_tree),
		cmocka_unit_test(test_errors),	     cmocka_unit_test(test_full_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
