/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images kept in the tree: the good ones stay readable, each bad one gives its one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "sample.h"

#include <fcntl.h>

static int open_golden(const char *dir, const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s.image", GOLDEN_DIR, dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return fd;
}

/* The one parent that there is. */
static int find_base(struct parent_finder *f, const struct image *child, struct source **ret,
		     struct err *err)
{
	*ret = malloc(sizeof(**ret));
	assert_int_equal(source_open_fd(*ret, open_golden("good", "base"), err), 0);
	(*ret)->owns_fd = true;
	return 0;
}

static struct parent_finder finder = {find_base};

static int verify(const char *dir, const char *name, struct err *err)
{
	_cleanup_close_ int fd = open_golden(dir, name);
	struct source src;
	int r = source_open_fd(&src, fd, err);

	assert_int_equal(r, 0);
	r = image_verify(&src, &finder, err);
	source_release(&src);
	return r;
}

/* Every page of every data chunk is what the sample says. */
static void check_content(struct image *im)
{
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	struct err err = ERR_INIT;

	for (size_t i = 0; i < im->nchunks; i++) {
		const struct chunk_ref *c = &im->chunk[i];

		assert_int_equal(image_read_chunk(c, buf, &err), 0);
		for (unsigned k = 0; k < c->n && c->kind == CHUNK_DATA; k++) {
			uint64_t base = c->object == SAMPLE_OBJECT ? 0 : SAMPLE_HEAP;
			unsigned page = (c->piece[k].addr - base) / CPX_PAGE_SIZE;
			uint8_t expected[4 * CPX_PAGE_SIZE];

			assert_true(c->piece[k].len <= sizeof(expected));
			sample_pages(page, c->piece[k].len / CPX_PAGE_SIZE, expected);
			assert_memory_equal(buf + c->piece[k].from, expected, c->piece[k].len);
		}
	}
}

static void test_good(void **state)
{
	static const char *const names[] = {"raw", "raw-aligned", "lz4", "zstd", "base"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_close_ int fd = open_golden("good", names[i]);
		struct err err = ERR_INIT;
		struct source src;
		struct image *im;

		if (verify("good", names[i], &err) < 0)
			fail_msg("%s: %s", names[i], err.msg);
		assert_int_equal(source_open_fd(&src, fd, &err), 0);
		assert_int_equal(image_open(&src, NULL, &im, &err), 0);
		assert_int_equal(im->nchunks, 6);
		assert_int_equal(im->ntasks, 3);
		check_content(im);
		image_free(im);
		source_release(&src);
	}
}

static void check_piece(const struct chunk_ref *c, unsigned i, enum chunk_kind kind,
			const struct image *from, unsigned page, unsigned n)
{
	uint64_t base = c->object == SAMPLE_OBJECT ? 0 : SAMPLE_HEAP;

	assert_true(i < c->n);
	assert_int_equal(c->kind, kind);
	assert_ptr_equal(c->image, from);
	assert_int_equal(c->piece[i].addr, base + page * CPX_PAGE_SIZE);
	assert_int_equal(c->piece[i].len, n * CPX_PAGE_SIZE);
}

/* What sample_write_delta() writes, looked up in both files. */
static void test_delta(void **state)
{
	_cleanup_close_ int fd = open_golden("good", "delta");
	struct err err = ERR_INIT;
	struct source src;
	struct image *im;

	if (verify("good", "delta", &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(source_open_fd(&src, fd, &err), 0);
	assert_int_equal(image_open(&src, &finder, &im, &err), 0);
	check_content(im);
	assert_int_equal(im->nchunks, 8);
	check_piece(&im->chunk[0], 0, CHUNK_DATA, im, 4, 2); /* of the object */
	check_piece(&im->chunk[1], 0, CHUNK_DATA, im->parent, 2, 1);
	check_piece(&im->chunk[2], 0, CHUNK_DATA, im, 2, 2); /* of the root */
	check_piece(&im->chunk[3], 0, CHUNK_DATA, im, 10, 1);
	check_piece(&im->chunk[4], 0, CHUNK_ZERO, im, 11, 1);
	check_piece(&im->chunk[5], 0, CHUNK_DATA, im, 12, 1);
	check_piece(&im->chunk[6], 0, CHUNK_DATA, im->parent, 0, 2);
	check_piece(&im->chunk[7], 0, CHUNK_INHERIT, im, 0, 2); /* of the child */
	image_free(im);
	source_release(&src);
}

static void test_bad(void **state)
{
	_cleanup_fclose_ FILE *f = fopen(GOLDEN_DIR "/bad/expected", "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *message = strchr(line, '\t');
		struct err err = ERR_INIT;

		assert_non_null(message);
		*message++ = '\0';
		message[strcspn(message, "\n")] = '\0';
		if (verify("bad", line, &err) >= 0)
			fail_msg("%s goes unnoticed", line);
		assert_string_equal(err.msg, message);
		n++;
	}
	assert_true(n >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_delta),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
