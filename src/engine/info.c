/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpx_info() and cpx_verify(): reading an image without restoring it. Owns the descriptor while it
 * is read. A stream is read to its end, so that what it holds is counted and checked as well.
 */
#include "engine/info.h"
#include "engine/result.h"
#include "base/util.h"

#include <fcntl.h>

static void cleanup_source(struct source *s)
{
	source_release(s);
}

static void cleanup_info(struct info *info)
{
	image_free(info->im);
	parents_release(&info->parents);
	free(info->mm_bytes);
}

/* "-" is standard input, which stays open. */
static int open_input(const char *file, int *ret_owned, struct source *s, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (strcmp(file, "-") == 0)
		return source_open_fd(s, STDIN_FILENO, err);
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(err, -errno, "cannot open");
	r = source_open_fd(s, fd, err);
	if (r < 0)
		return r;
	*ret_owned = TAKE_FD(fd);
	return 0;
}

static int compare_mms(const void *a, const void *b)
{
	const struct mm_bytes *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

struct mm_bytes *info_mm_bytes(const struct info *info, uint32_t id)
{
	struct mm_bytes key = {.id = id};

	return bsearch(&key, info->mm_bytes, info->im->nmms, sizeof(key), compare_mms);
}

static int init_mm_bytes(struct info *info, struct err *err)
{
	info->mm_bytes = calloc(info->im->nmms + 1, sizeof(*info->mm_bytes));
	if (!info->mm_bytes)
		return err_nomem(err);
	for (size_t i = 0; i < info->im->nmms; i++)
		info->mm_bytes[i].id = info->im->mm[i]->id;
	qsort(info->mm_bytes, info->im->nmms, sizeof(*info->mm_bytes), compare_mms);
	return 0;
}

/* What a page is made of, wherever that is. */
static void count_chunk(struct info *info, const struct chunk_ref *c)
{
	struct info_totals *t = &info->totals;
	struct mm_bytes *mm = info_mm_bytes(info, c->object);
	bool has_bytes = c->kind == CHUNK_DATA || c->kind == CHUNK_BEFORE;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < c->n; i++)
		bytes += c->piece[i].len;
	if (has_bytes)
		t->bytes += bytes;
	if (c->kind == CHUNK_BEFORE || (c->kind == CHUNK_DATA && c->image != info->im))
		t->before += bytes;
	if (c->kind == CHUNK_INHERIT)
		t->inherited += bytes;
	if (c->kind == CHUNK_ZERO)
		t->zero += bytes;
	if (mm && has_bytes)
		mm->bytes += bytes;
}

/* What is in the file itself. */
static void count_stored(struct info *info, const struct chunk_ref *c)
{
	if (c->kind != CHUNK_DATA)
		return;
	info->totals.chunks[c->codec]++;
	info->totals.stored += c->stored_len;
}

static int count_stream(struct info *info, struct err *err)
{
	_cleanup_free_ void *buf = malloc(CHUNK_MAX);
	struct chunk_ref c;
	int r;

	if (!buf)
		return err_nomem(err);
	while ((r = image_next_chunk(info->im, &c, buf, err)) == 0) {
		count_chunk(info, &c);
		count_stored(info, &c);
	}
	return r == -ENODATA ? 0 : r;
}

/* Of a delta whose parent is missing there is still much to tell. */
static int open_image(struct info *info, struct source *s, struct err *err)
{
	int r = image_open(s, &info->parents.finder, &info->im, err);

	if (r != -ENOLINK)
		return r;
	info->missing = *err;
	*err = (struct err)ERR_INIT;
	return image_open_alone(s, &info->im, err);
}

static int gather(struct info *info, struct source *s, struct err *err)
{
	int r = open_image(info, s, err);

	if (r < 0)
		return r;
	info->size = s->is_seekable ? s->size : 0;
	r = init_mm_bytes(info, err);
	if (r < 0)
		return r;
	if (!s->is_seekable)
		return count_stream(info, err);
	for (size_t i = 0; i < info->im->nchunks; i++)
		count_chunk(info, &info->im->chunk[i]);
	for (size_t i = 0; i < info->im->nstored; i++)
		count_stored(info, &info->im->stored[i]);
	return 0;
}

static int print_info(const char *file, const struct cpx_parents *parents, bool json, FILE *out,
		      struct cpx_result *r, struct err *err)
{
	__attribute__((cleanup(cleanup_source))) struct source s = {.fd = -1};
	__attribute__((cleanup(cleanup_info))) struct info info = {0};
	_cleanup_close_ int fd = -1;
	int ret = open_input(file, &fd, &s, err);

	if (ret == 0)
		ret = parents_init(&info.parents, file, parents, err);
	if (ret == 0)
		ret = gather(&info, &s, err);
	if (ret < 0)
		return ret;
	r->tasks = info.im->ntasks;
	r->memory_bytes = info.totals.bytes;
	r->image_bytes = info.size;
	ret = json ? info_print_json(&info, out, err) : info_print_text(&info, out, err);
	if (ret == 0 && fflush(out) != 0)
		ret = err_sys(err, -errno, "cannot write");
	return ret;
}

int cpx_info(const char *file, const struct cpx_parents *parents, bool json, FILE *out,
	     struct cpx_result *r)
{
	struct err err = ERR_INIT;
	int ret = print_info(file, parents, json, out, r, &err);

	if (ret < 0)
		err_context(&err, "%s", file);
	return result_set(r, ret, &err, NULL);
}

static int verify(const char *file, struct parents *parents, struct cpx_result *r, struct err *err)
{
	__attribute__((cleanup(cleanup_source))) struct source s = {.fd = -1};
	_cleanup_close_ int fd = -1;
	int ret = open_input(file, &fd, &s, err);

	if (ret < 0)
		return ret;
	r->image_bytes = s.is_seekable ? s.size : 0;
	return image_verify(&s, &parents->finder, err);
}

int cpx_verify(const char *file, const struct cpx_parents *given, struct cpx_result *r)
{
	struct refusals refusals = {0};
	struct parents parents;
	struct err err = ERR_INIT;
	int ret = parents_init(&parents, file, given, &err);

	if (ret == 0)
		ret = verify(file, &parents, r, &err);
	parents_release(&parents);
	if (ret == -ENOLINK)
		ret = refuse(&refusals, 0, NULL, file, "%s", err.msg);
	else if (ret < 0)
		err_context(&err, "%s", file);
	ret = result_set(r, ret, &err, &refusals);
	refusals_release(&refusals);
	return ret;
}
