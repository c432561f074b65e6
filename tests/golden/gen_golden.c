/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes the golden images: gen_golden DIR. Run by hand, the result is kept in the tree: images of
 * a version that has been released are never made anew, that is what they are good for. Prints
 * the lines of bad/expected, which test_golden.c compares with.
 */
#include "sample.h"
#include "base/util.h"
#include "image/format.h"

#include <fcntl.h>
#include <sys/stat.h>

struct blob {
	uint8_t *data;
	size_t size;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "gen_golden: %s: %s\n", what, why);
	exit(1);
}

static struct blob make(const struct sample *s, enum codec codec, bool page_aligned)
{
	struct image_writer_options o = {.codec = codec, .page_aligned = page_aligned};
	struct err err = ERR_INIT;
	struct blob b;

	if (sample_make(s, &o, &b.data, &b.size, &err) < 0)
		die("sample", err.msg);
	return b;
}

static void store(const char *dir, const char *name, struct blob b)
{
	char path[4096];
	_cleanup_fclose_ FILE *f = NULL;

	snprintf(path, sizeof(path), "%s/%s.image", dir, name);
	f = fopen(path, "we");
	if (!f || fwrite(b.data, 1, b.size, f) != b.size)
		die(path, strerror(errno));
}

static void store_bad(const char *dir, const char *name, struct blob b)
{
	struct err err = ERR_INIT;
	struct source src;

	source_open_memory(&src, b.data, b.size);
	if (image_verify(&src, NULL, &err) == 0)
		die(name, "is good");
	store(dir, name, b);
	printf("%s\t%s\n", name, err.msg);
}

static void store_layer(const char *dir, const char *name, bool is_delta,
			const struct image_writer_options *o)
{
	char path[4096];
	_cleanup_close_ int fd = -1;
	struct err err = ERR_INIT;
	struct sample s;

	sample_init(&s);
	s.codec_pages = 3;
	snprintf(path, sizeof(path), "%s/%s.image", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		die(path, strerror(errno));
	if ((is_delta ? sample_write_delta(&s, fd, o, &err) : sample_write(&s, fd, o, &err)) < 0)
		die(name, err.msg);
}

/* With ids that are always the same, so that the fuzz target knows the base. */
static void make_layers(const char *dir)
{
	struct image_writer_options base = {.codec = CODEC_LZ4, .id = SAMPLE_BASE_ID};
	struct image_writer_options delta = {.codec = CODEC_ZSTD, .id = SAMPLE_DELTA_ID};

	memcpy(delta.parent_id, SAMPLE_BASE_ID, sizeof(delta.parent_id));
	store_layer(dir, "base", false, &base);
	store_layer(dir, "delta", true, &delta);
}

static void make_good(const char *dir)
{
	struct sample s;

	sample_init(&s);
	s.codec_pages = 3;
	store(dir, "raw", make(&s, CODEC_NONE, false));
	store(dir, "raw-aligned", make(&s, CODEC_NONE, true));
	store(dir, "lz4", make(&s, CODEC_LZ4, false));
	store(dir, "zstd", make(&s, CODEC_ZSTD, false));
	make_layers(dir);
}

/* One byte of the good image changed. */
static void flip(const char *dir, const char *name, struct blob b, size_t at)
{
	b.data[at] ^= 1;
	store_bad(dir, name, b);
	b.data[at] ^= 1;
}

static size_t first_frame(struct blob b, enum frame_kind kind)
{
	for (size_t i = HEADER_SIZE; i + FRAME_SIZE < b.size; i++)
		if (format_frame_kind(b.data + i) == kind)
			return i;
	die("frame", "not there");
	return 0;
}

static void make_damaged(const char *dir, struct blob b)
{
	struct format_header newer = {.version = FORMAT_VERSION + 1};
	size_t chunk = first_frame(b, FRAME_CHUNK), index = first_frame(b, FRAME_INDEX);
	uint8_t header[HEADER_SIZE];

	store_bad(dir, "empty", (struct blob){b.data, 0});
	store_bad(dir, "cut-in-header", (struct blob){b.data, 20});
	store_bad(dir, "cut-in-record", (struct blob){b.data, 200});
	store_bad(dir, "cut-in-chunk", (struct blob){b.data, chunk + 300});
	store_bad(dir, "cut-in-footer", (struct blob){b.data, b.size - 1});
	flip(dir, "foreign", b, 1);
	flip(dir, "flipped-id", b, 20);
	flip(dir, "flipped-record-header", b, HEADER_SIZE + 8);
	flip(dir, "flipped-record", b, HEADER_SIZE + FRAME_SIZE + 5);
	flip(dir, "flipped-chunk-header", b, chunk + 12);
	flip(dir, "flipped-extent", b, chunk + FRAME_SIZE + 2);
	flip(dir, "flipped-chunk", b, chunk + FRAME_SIZE + EXTENT_SIZE + 100);
	flip(dir, "flipped-index", b, index + FRAME_SIZE + 50);
	flip(dir, "flipped-footer", b, b.size - FOOTER_SIZE + 3);
	memcpy(header, b.data, HEADER_SIZE);
	format_put_header(b.data, &newer);
	store_bad(dir, "newer", b);
	memcpy(b.data, header, HEADER_SIZE);
}

static void self_parent(struct sample *s)
{
	s->child.ppid = 102;
}

static void overlap(struct sample *s)
{
	s->vma[0].end = SAMPLE_HEAP + CPX_PAGE_SIZE;
}

static void lost_file(struct sample *s)
{
	s->fd[2].file = 20;
}

static void outside_mapping(struct sample *s)
{
	s->vma[1].end = SAMPLE_HEAP + 2 * CPX_PAGE_SIZE;
}

static void kernel_address(struct sample *s)
{
	s->vma[2].end = 0xffffffffff600000;
}

static void no_leader(struct sample *s)
{
	s->thread[0].tid = 105;
}

static void make_inconsistent(const char *dir)
{
	static const struct {
		const char *name;
		void (*spoil)(struct sample *s);
	} cases[] = {
		{"self-parent", self_parent},	    {"overlapping-mappings", overlap},
		{"lost-file", lost_file},	    {"pages-outside", outside_mapping},
		{"kernel-address", kernel_address}, {"no-leader", no_leader},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sample s;

		sample_init(&s);
		s.codec_pages = 1;
		cases[i].spoil(&s);
		store_bad(dir, cases[i].name, make(&s, CODEC_LZ4, false));
	}
}

int main(int argc, char **argv)
{
	struct sample s;
	char dir[4096];

	if (argc != 2)
		die("usage", "gen_golden DIR");
	snprintf(dir, sizeof(dir), "%s/good", argv[1]);
	mkdir(dir, 0777);
	make_good(dir);
	snprintf(dir, sizeof(dir), "%s/bad", argv[1]);
	mkdir(dir, 0777);
	sample_init(&s);
	s.codec_pages = 1;
	make_damaged(dir, make(&s, CODEC_LZ4, false));
	make_inconsistent(dir);
	return 0;
}
