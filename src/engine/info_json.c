/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image as one JSON object, written piece by piece so that the number of chunks does not
 * matter. Records go through record_json.c; only the frame around them is named here.
 */
#include "engine/info.h"
#include "engine/record_json.h"
#include "base/util.h"

#include <inttypes.h>

/* Prints value and drops it; NULL is lack of memory. */
static int print_value(FILE *out, json_t *value, struct err *err)
{
	int r;

	if (!value)
		return err_nomem(err);
	r = json_dumpf(value, out, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(value);
	return r < 0 ? err_set(err, -EIO, "cannot write JSON") : 0;
}

static int print_array(FILE *out, const char *name, void *const *msg, size_t n, struct err *err)
{
	int r = 0;

	fprintf(out, ",\n \"%s\": [", name);
	for (size_t i = 0; i < n && r == 0; i++) {
		fputs(i ? ",\n  " : "\n  ", out);
		r = print_value(out, record_to_json(msg[i]), err);
	}
	fputs("]", out);
	return r;
}

static const char *kind_name(enum chunk_kind kind)
{
	static const char *const names[] = {[CHUNK_DATA] = "data",
					    [CHUNK_INHERIT] = "inherit",
					    [CHUNK_ZERO] = "zero",
					    [CHUNK_BEFORE] = "before"};

	return names[kind];
}

static const char *codec_of(const struct chunk_ref *c)
{
	static const char *const names[] = {"none", "lz4", "zstd"};

	return names[c->codec];
}

static void print_chunk(FILE *out, const struct chunk_ref *c)
{
	fprintf(out,
		"{\"object\":%u,\"kind\":\"%s\",\"codec\":\"%s\",\"offset\":%" PRIu64
		",\"bytes\":%u,\"stored\":%u,\"extents\":[",
		c->object, kind_name(c->kind), codec_of(c), c->offset, c->data_len, c->stored_len);
	for (unsigned i = 0; i < c->n; i++)
		fprintf(out, "%s[%" PRIu64 ",%" PRIu64 "]", i ? "," : "", c->piece[i].addr,
			c->piece[i].len);
	fputs("]}", out);
}

static void print_id(FILE *out, const char *name, const uint8_t id[16])
{
	fprintf(out, ",\n \"%s\": \"", name);
	for (int i = 0; i < 16; i++)
		fprintf(out, "%02x", id[i]);
	fputs("\"", out);
}

/* Those that are found, the nearest first; "missing" if there should be one more. */
static void print_parents(FILE *out, const struct info *info)
{
	const char *separator = "\n";

	fputs(",\n \"parents\": [", out);
	for (const struct image *im = info->im->parent; im; im = im->parent) {
		const char *path = parents_path(&info->parents, im);
		json_t *file = bytes_to_json((const uint8_t *)path, path ? strlen(path) : 0);

		fprintf(out, "%s  {\"id\": \"", separator);
		for (int i = 0; i < 16; i++)
			fprintf(out, "%02x", im->id[i]);
		fputs("\", \"file\": ", out);
		json_dumpf(file, out, JSON_ENCODE_ANY);
		fputs("}", out);
		json_decref(file);
		separator = ",\n";
	}
	fprintf(out, "],\n \"is_incomplete\": %s", info->missing.code ? "true" : "false");
}

static void print_totals(FILE *out, const struct info *info)
{
	const struct info_totals *t = &info->totals;

	fprintf(out,
		",\n \"memory\": {\"bytes\":%" PRIu64 ",\"stored\":%" PRIu64
		",\"before\":%" PRIu64 ",\"inherited\":%" PRIu64 ",\"zero\":%" PRIu64 ",\"raw_chunks\":%" PRIu64
		",\"lz4_chunks\":%" PRIu64 ",\"zstd_chunks\":%" PRIu64 "}",
		t->bytes, t->stored, t->before, t->inherited, t->zero, t->chunks[CODEC_NONE],
		t->chunks[CODEC_LZ4], t->chunks[CODEC_ZSTD]);
}

/* Streams are not kept: what they held is only in the totals. */
static void print_chunks(FILE *out, const struct info *info)
{
	if (!info->im->source->is_seekable)
		return;
	fputs(",\n \"chunks\": [", out);
	for (size_t i = 0; i < info->im->nstored; i++) {
		fputs(i ? ",\n  " : "\n  ", out);
		print_chunk(out, &info->im->stored[i]);
	}
	fputs("]", out);
}

int info_print_json(const struct info *info, FILE *out, struct err *err)
{
	const struct image *im = info->im;
	const struct {
		const char *name;
		void *const *msg;
		size_t n;
	} kinds[] = {
		{"tasks", (void **)im->task, im->ntasks},
		{"mms", (void **)im->mm, im->nmms},
		{"objects", (void **)im->object, im->nobjects},
		{"fd_tables", (void **)im->fd_table, im->nfd_tables},
		{"files", (void **)im->file, im->nfiles},
	};
	int r;

	fprintf(out, "{\"version\": %u", im->version);
	print_id(out, "id", im->id);
	print_id(out, "parent_id", im->parent_id);
	print_parents(out, info);
	if (info->size)
		fprintf(out, ",\n \"size\": %" PRIu64, info->size);
	fputs(",\n \"image\": ", out);
	r = print_value(out, record_to_json(&im->info->base), err);
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r == 0; i++)
		r = print_array(out, kinds[i].name, kinds[i].msg, kinds[i].n, err);
	if (r < 0)
		return r;
	print_totals(out, info);
	print_chunks(out, info);
	fputs("\n}\n", out);
	return 0;
}
