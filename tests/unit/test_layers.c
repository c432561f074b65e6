/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images of layers: chains made at random are what a plain model of them says; what does not fit
 * together is an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "image/format.h"
#include "../golden/sample.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define OWNERS	3
#define LAYERS	6
#define CHAINS	60
#define OBJECT_PAGES 16

enum { THE_OBJECT, THE_PARENT, THE_CHILD };
static const uint32_t owner_id[OWNERS] = {SAMPLE_OBJECT, 1, 2};

static unsigned pages_of(int owner)
{
	return owner == THE_OBJECT ? OBJECT_PAGES : SAMPLE_PAGES;
}

static uint64_t base_of(int owner)
{
	return owner == THE_OBJECT ? 0 : SAMPLE_HEAP;
}

static int owner_of(uint32_t id)
{
	return id == SAMPLE_OBJECT ? THE_OBJECT : id == 1 ? THE_PARENT : THE_CHILD;
}

/* ---- the model: what each page holds ---- */

#define GONE 0
#define ZERO 1 /* all other values are content, each given out once */

struct model {
	uint32_t page[OWNERS][SAMPLE_PAGES];
	uint32_t next;
};

static void fill_page(uint32_t content, uint8_t *page)
{
	for (size_t i = 0; i < CPX_PAGE_SIZE; i += 4)
		memcpy(page + i, &content, 4);
}

static uint32_t content_of(const uint8_t *page)
{
	uint32_t content;
	uint8_t expected[CPX_PAGE_SIZE];

	memcpy(&content, page, 4);
	fill_page(content, expected);
	assert_memory_equal(page, expected, CPX_PAGE_SIZE);
	return content;
}

/* ---- writing ---- */

static void check(int r, const struct err *err)
{
	if (r < 0)
		fail_msg("%s", err->msg);
}

/* One chunk of the pages that are marked. */
static void write_marked(struct image_writer *w, int owner, enum chunk_kind kind,
			 const uint32_t content[SAMPLE_PAGES], uint64_t marked)
{
	static uint8_t data[SAMPLE_PAGES * CPX_PAGE_SIZE];
	struct extent ext[SAMPLE_PAGES];
	struct err err = ERR_INIT;
	unsigned n = 0, k = 0;

	for (unsigned i = 0; i < pages_of(owner); i++) {
		if (!(marked >> i & 1))
			continue;
		fill_page(content[i], data + k++ * CPX_PAGE_SIZE);
		ext[n++] = (struct extent){base_of(owner) + i * CPX_PAGE_SIZE, CPX_PAGE_SIZE};
		if (n > 1 && ext[n - 2].addr + ext[n - 2].len == ext[n - 1].addr)
			ext[--n - 1].len += CPX_PAGE_SIZE;
	}
	if (n)
		check(image_write_chunk(w, owner_id[owner], kind, ext, n,
					kind == CHUNK_DATA ? data : NULL, &err), &err);
}

/* In up to three chunks. */
static void write_pages(struct image_writer *w, int owner, enum chunk_kind kind,
			const uint32_t content[SAMPLE_PAGES], uint64_t marked)
{
	uint64_t some = rand() % 2 ? ~0ULL << rand() % 64 : 0x5555555555555555ULL * (rand() % 4);

	write_marked(w, owner, kind, content, marked & some);
	write_marked(w, owner, kind, content, marked & ~some);
}

/* Rounds: each page is stored, found zero, or left alone. */
static void write_early(struct image_writer *w, struct model *now, struct model *before)
{
	for (int i = rand() % 12; i > 0; i--) {
		int owner = rand() % OWNERS;
		uint32_t *content = before->page[owner];
		uint64_t data = 0, zero = 0;

		for (unsigned k = 0; k < pages_of(owner); k++) {
			int what = rand() % 5;

			data |= (uint64_t)(what == 0) << k;
			zero |= (uint64_t)(what == 1) << k;
			content[k] = what == 0 ? now->next++ : what == 1 ? ZERO : content[k];
		}
		write_pages(w, owner, CHUNK_DATA, content, data);
		write_pages(w, owner, CHUNK_ZERO, content, zero);
	}
}

/* A page of the next layer. The child may have its parent's. */
static enum chunk_kind next_page(int owner, unsigned i, struct model *now,
				 const struct model *before)
{
	uint32_t *page = &now->page[owner][i];

	*page = before->page[owner][i];
	switch (rand() % 8) {
	case 0:
		*page = GONE;
		return 0;
	case 1:
		*page = now->next++;
		return CHUNK_DATA;
	case 2:
		*page = owner == THE_OBJECT ? *page : ZERO;
		return owner == THE_OBJECT ? (*page ? CHUNK_BEFORE : 0) : CHUNK_ZERO;
	case 3:
		if (owner != THE_CHILD || !now->page[THE_PARENT][i])
			return *page ? CHUNK_BEFORE : 0;
		*page = now->page[THE_PARENT][i];
		return CHUNK_INHERIT;
	default:
		return *page ? CHUNK_BEFORE : 0;
	}
}

static void write_owner(struct image_writer *w, int owner, struct model *now,
			const struct model *before)
{
	uint64_t marked[CHUNK_BEFORE + 1] = {0};

	for (unsigned i = 0; i < pages_of(owner); i++)
		marked[next_page(owner, i, now, before)] |= 1ULL << i;
	for (int kind = CHUNK_BEFORE; kind >= CHUNK_DATA; kind--)
		write_pages(w, owner, kind, now->page[owner], marked[kind]);
}

struct layer_file {
	int fd;
	uint8_t id[16];
};

static void write_layer(struct layer_file *f, const struct layer_file *parent, struct model *now)
{
	struct image_writer_options o = {.codec = rand() % 3, .page_aligned = rand() % 2};
	uint32_t parent_was = parent && rand() % 4 == 0 ? THE_PARENT : THE_CHILD;
	struct model before = *now;
	struct image_writer *w;
	struct err err = ERR_INIT;
	struct sample s;
	uint64_t size;

	if (parent)
		memcpy(o.parent_id, parent->id, sizeof(o.parent_id));
	memcpy(before.page[THE_CHILD], before.page[parent_was], sizeof(before.page[0]));
	f->fd = memfd_create("layer", MFD_CLOEXEC);
	check(image_writer_new(f->fd, &o, &w, &err), &err);
	image_writer_id(w, f->id);
	write_early(w, now, &before);
	sample_init(&s);
	s.object.early = SAMPLE_OBJECT;
	s.mm[0].early = 1;
	s.mm[1].early = 2;
	if (parent) {
		s.object.before_object = SAMPLE_OBJECT;
		s.mm[0].before_mm = 1;
		s.mm[1].before_mm = owner_id[parent_was];
	}
	check(sample_write_records(&s, w, &err), &err);
	for (int i = 0; i < OWNERS; i++)
		write_owner(w, i, now, &before);
	check(image_writer_seal(w, &size, &err), &err);
	image_writer_free(w);
}

/* ---- reading ---- */

static int open_source(struct source *s, int fd, struct err *err)
{
	if (lseek(fd, 0, SEEK_CUR) > 0)
		lseek(fd, 0, SEEK_SET); /* behind what was written */
	return source_open_fd(s, fd, err);
}

struct finder {
	struct parent_finder base;
	const struct layer_file *file;
	size_t n;
};

static int find(struct parent_finder *f, const struct image *child, struct source **ret,
		struct err *err)
{
	const struct finder *all = (const struct finder *)f;

	for (size_t i = 0; i < all->n; i++)
		if (memcmp(all->file[i].id, child->parent_id, 16) == 0) {
			*ret = malloc(sizeof(**ret));
			return open_source(*ret, all->file[i].fd, err);
		}
	return err_set(err, -ENOLINK, "its parent is missing");
}

static void note_piece(struct model *m, const struct chunk_ref *c, const struct piece *p,
		       const uint8_t *data)
{
	int owner = owner_of(c->object);
	unsigned first = (unsigned)((p->addr - base_of(owner)) / CPX_PAGE_SIZE);

	for (unsigned i = 0; i < p->len / CPX_PAGE_SIZE; i++) {
		uint32_t *page = &m->page[owner][first + i];

		assert_int_equal(*page, GONE); /* no page comes twice */
		if (c->kind == CHUNK_DATA)
			*page = content_of(data + p->from + i * CPX_PAGE_SIZE);
		else if (c->kind == CHUNK_ZERO)
			*page = ZERO;
		else
			*page = m->page[THE_PARENT][first + i];
		assert_int_not_equal(c->kind, CHUNK_BEFORE);
		assert_int_not_equal(*page, GONE);
	}
}

/* Owners come in their order, so that the parent's pages are known when the child's come. */
static void read_model(const struct image *im, struct model *m)
{
	static uint8_t data[CHUNK_MAX];
	struct err err = ERR_INIT;
	int last = 0;

	memset(m, 0, sizeof(*m));
	for (size_t i = 0; i < im->nchunks; i++) {
		const struct chunk_ref *c = &im->chunk[i];

		assert_true(c->n > 0 && c->n <= EXTENTS_MAX && owner_of(c->object) >= last);
		last = owner_of(c->object);
		check(image_read_chunk(c, data, &err), &err);
		for (unsigned k = 0; k < c->n; k++)
			note_piece(m, c, &c->piece[k], data);
	}
}

static void check_model(const struct model *is, const struct model *expected)
{
	for (int owner = 0; owner < OWNERS; owner++)
		for (unsigned i = 0; i < pages_of(owner); i++) {
			uint32_t page = expected->page[owner][i];

			if (owner == THE_OBJECT && page == ZERO)
				page = GONE; /* of an object that is the same */
			if (is->page[owner][i] != page)
				fail_msg("owner %d, page %u: %u, not %u", owner, i,
					 is->page[owner][i], page);
		}
}

/* ---- comparing, by several threads at once ---- */

#define COMPARERS 3

struct comparer {
	pthread_t thread;
	struct image_lookup *lookup;
	int owner;
	const struct model *is;
	unsigned wrong;
};

/* Only content is ever the same; a page with another content never is. */
static bool is_right(struct image_lookup *l, uint64_t addr, uint32_t content)
{
	uint8_t page[CPX_PAGE_SIZE], other[CPX_PAGE_SIZE];

	fill_page(content, page);
	fill_page(content + 1, other);
	return image_lookup_compare(l, addr, page, NULL) == (content > ZERO) &&
	       image_lookup_compare(l, addr, other, NULL) == 0;
}

static void *compare_all(void *arg)
{
	struct comparer *c = arg;

	for (unsigned i = 0; i < pages_of(c->owner); i++)
		c->wrong += !is_right(c->lookup, base_of(c->owner) + i * CPX_PAGE_SIZE,
				      c->is->page[c->owner][i]);
	return NULL;
}

static void check_comparison(const struct image *im, int owner, const struct model *is)
{
	struct comparer c[COMPARERS];
	struct image_lookup *lookup;
	struct err err = ERR_INIT;

	check(image_lookup_new(im, owner_id[owner], &lookup, &err), &err);
	for (int i = 0; i < COMPARERS; i++) {
		c[i] = (struct comparer){.lookup = lookup, .owner = owner, .is = is};
		assert_int_equal(pthread_create(&c[i].thread, NULL, compare_all, &c[i]), 0);
	}
	for (int i = 0; i < COMPARERS; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].wrong, 0);
	}
	image_lookup_free(lookup);
}

static void check_layers(const struct layer_file *f, size_t n, const struct model *expected)
{
	struct finder finder = {{find}, f, n};
	struct err err = ERR_INIT;
	struct source src;
	struct image *im;
	struct model is;

	check(open_source(&src, f[n - 1].fd, &err), &err);
	check(image_open(&src, &finder.base, &im, &err), &err);
	read_model(im, &is);
	check_model(&is, expected);
	for (int owner = 0; owner < OWNERS; owner++)
		check_comparison(im, owner, &is);
	image_free(im);
	check(image_verify(&src, &finder.base, &err), &err);
	source_release(&src);
}

static void test_random_chains(void **state)
{
	for (unsigned seed = 0; seed < CHAINS; seed++) {
		struct layer_file f[LAYERS];
		struct model now = {.next = 2};

		srand(seed);
		for (size_t n = 0; n < LAYERS; n++) {
			write_layer(&f[n], n ? &f[n - 1] : NULL, &now);
			check_layers(f, n + 1, &now);
		}
		for (size_t n = 0; n < LAYERS; n++)
			close(f[n].fd);
	}
}

/* ---- a stream ---- */

struct sender {
	int from, to;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;
	char buf[10000];
	ssize_t n;

	for (off_t at = 0; (n = pread(s->from, buf, sizeof(buf), at)) > 0; at += n)
		if (write(s->to, buf, n) != n)
			break;
	return NULL; /* the pipe stays open: nothing behind the image is waited for */
}

static void test_stream(void **state)
{
	struct layer_file f[3];
	struct finder finder = {{find}, f, 2};
	struct model now = {.next = 2}, is;
	struct err err = ERR_INIT;
	struct source src;
	struct sender s;
	struct image *im;
	pthread_t thread;
	int pipe_fd[2];

	srand(7);
	for (size_t n = 0; n < 3; n++)
		write_layer(&f[n], n ? &f[n - 1] : NULL, &now);
	assert_int_equal(pipe(pipe_fd), 0);
	s = (struct sender){f[2].fd, pipe_fd[1]};
	pthread_create(&thread, NULL, send_all, &s);
	check(open_source(&src, pipe_fd[0], &err), &err);
	check(image_open(&src, &finder.base, &im, &err), &err);
	pthread_join(thread, NULL);
	assert_true(src.is_seekable);
	read_model(im, &is);
	check_model(&is, &now);
	image_free(im);
	source_release(&src);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	for (size_t n = 0; n < 3; n++)
		close(f[n].fd);
}

/* ---- sharing ---- */

struct plain {
	struct sample s;
	struct image_writer_options o;
	struct image_writer *w;
	struct layer_file f;
};

static void plain_start(struct plain *p, const struct layer_file *parent)
{
	struct err err = ERR_INIT;

	*p = (struct plain){.o.codec = CODEC_NONE};
	if (parent)
		memcpy(p->o.parent_id, parent->id, 16);
	p->f.fd = memfd_create("layer", MFD_CLOEXEC);
	check(image_writer_new(p->f.fd, &p->o, &p->w, &err), &err);
	image_writer_id(p->w, p->f.id);
	sample_init(&p->s);
}

static void plain_records(struct plain *p)
{
	struct err err = ERR_INIT;

	check(sample_write_records(&p->s, p->w, &err), &err);
}

static void plain_chunk(struct plain *p, uint32_t owner, enum chunk_kind kind, unsigned page,
			unsigned n)
{
	struct extent e = {SAMPLE_HEAP + page * CPX_PAGE_SIZE, n * CPX_PAGE_SIZE};
	static uint8_t data[SAMPLE_PAGES * CPX_PAGE_SIZE];
	struct err err = ERR_INIT;

	check(image_write_chunk(p->w, owner, kind, &e, 1, kind == CHUNK_DATA ? data : NULL, &err),
	      &err);
}

static void plain_end(struct plain *p)
{
	struct err err = ERR_INIT;
	uint64_t size;

	check(image_writer_seal(p->w, &size, &err), &err);
	image_writer_free(p->w);
}

static int open_plain(const struct layer_file *f, size_t n, struct image **ret, struct err *err)
{
	static struct source src;
	struct finder finder = {{find}, f, n};

	check(open_source(&src, f[n - 1].fd, err), err);
	return image_open(&src, &finder.base, ret, err);
}

/* Pages 0-7 of both are the same bytes of the parent image, but 3 was written to by the child: the
 * others stay shared, and are not in the list a second time. */
static void test_shared_pages_stay_shared(void **state)
{
	struct plain base, delta;
	struct layer_file f[2];
	struct err err = ERR_INIT;
	struct image *im;
	uint64_t data = 0, inherited = 0;

	plain_start(&base, NULL);
	plain_records(&base);
	plain_chunk(&base, 1, CHUNK_DATA, 0, 8);
	plain_chunk(&base, 2, CHUNK_INHERIT, 0, 8);
	plain_end(&base);
	plain_start(&delta, &base.f);
	delta.s.mm[0].before_mm = 1;
	delta.s.mm[1].before_mm = 2;
	plain_records(&delta);
	plain_chunk(&delta, 1, CHUNK_BEFORE, 0, 8);
	plain_chunk(&delta, 2, CHUNK_BEFORE, 0, 3);
	plain_chunk(&delta, 2, CHUNK_DATA, 3, 1);
	plain_chunk(&delta, 2, CHUNK_BEFORE, 4, 4);
	plain_end(&delta);
	f[0] = base.f;
	f[1] = delta.f;
	check(open_plain(f, 2, &im, &err), &err);
	for (size_t i = 0; i < im->nchunks; i++)
		for (unsigned k = 0; k < im->chunk[i].n && im->chunk[i].object == 2; k++)
			*(im->chunk[i].kind == CHUNK_INHERIT ? &inherited : &data) +=
				im->chunk[i].piece[k].len;
	assert_int_equal(data, CPX_PAGE_SIZE);
	assert_int_equal(inherited, 7 * CPX_PAGE_SIZE);
	image_free(im);
	close(f[0].fd);
	close(f[1].fd);
}

/* ---- what does not fit ---- */

/* A delta of page 0 of a parent that holds page 0 as the owner 1; `change` spoils something. */
static void check_refused(void (*change)(struct plain *base, struct plain *delta), int code,
			  const char *text)
{
	struct plain base, delta;
	struct layer_file f[2];
	struct err err = ERR_INIT;
	struct image *im = NULL;
	int r;

	plain_start(&base, NULL);
	plain_records(&base);
	plain_chunk(&base, 1, CHUNK_DATA, 0, 1);
	plain_end(&base);
	plain_start(&delta, &base.f);
	delta.s.mm[0].before_mm = 1;
	change(&base, &delta);
	plain_records(&delta);
	plain_chunk(&delta, 1, CHUNK_BEFORE, 0, 1);
	plain_end(&delta);
	f[0] = base.f;
	f[1] = delta.f;
	r = open_plain(f, 2, &im, &err);
	if (r != code || !strstr(err.msg, text))
		fail_msg("%d, '%s', not %d, '%s'", r, err.msg, code, text);
	close(f[0].fd);
	close(f[1].fd);
}

static void lose_parent(struct plain *base, struct plain *delta)
{
	base->f.id[0] ^= 1;
}

static void name_no_mm(struct plain *base, struct plain *delta)
{
	delta->s.mm[0].before_mm = 77;
}

static void name_an_object(struct plain *base, struct plain *delta)
{
	delta->s.mm[0].before_mm = SAMPLE_OBJECT;
}

static void name_mm_without_page(struct plain *base, struct plain *delta)
{
	delta->s.mm[0].before_mm = 2;
}

static void have_nothing_before(struct plain *base, struct plain *delta)
{
	delta->s.mm[0].before_mm = 0;
}

static void have_only_early_of_another(struct plain *base, struct plain *delta)
{
	delta->s.mm[0].before_mm = 0;
	delta->s.mm[0].early = 5;
	plain_chunk(delta, 5, CHUNK_DATA, 1, 1);
	plain_chunk(delta, 6, CHUNK_DATA, 0, 1);
}

static void test_refused(void **state)
{
	check_refused(lose_parent, -ENOLINK, "its parent is missing");
	check_refused(name_no_mm, -EBADMSG, "no layer has it");
	check_refused(name_an_object, -EBADMSG, "no layer has it");
	check_refused(name_mm_without_page, -EBADMSG, "no layer has it");
	check_refused(have_nothing_before, -EBADMSG, "nothing was before");
	check_refused(have_only_early_of_another, -EBADMSG, "no layer has it");
}

/* Finds the same file whatever is asked for. */
static int find_wrong(struct parent_finder *f, const struct image *child, struct source **ret,
		      struct err *err)
{
	*ret = malloc(sizeof(**ret));
	return open_source(*ret, ((struct finder *)f)->file->fd, err);
}

static void test_wrong_parent(void **state)
{
	struct finder finder = {{find_wrong}};
	struct plain base, other, delta;
	struct err err = ERR_INIT;
	struct source src;
	struct image *im;

	plain_start(&base, NULL);
	plain_records(&base);
	plain_end(&base);
	plain_start(&other, NULL);
	plain_records(&other);
	plain_end(&other);
	plain_start(&delta, &base.f);
	delta.s.mm[0].before_mm = 1;
	plain_records(&delta);
	plain_chunk(&delta, 1, CHUNK_BEFORE, 0, 1);
	plain_end(&delta);
	finder.file = &other.f;
	check(open_source(&src, delta.f.fd, &err), &err);
	assert_int_equal(image_open(&src, &finder.base, &im, &err), -ENOLINK);
	assert_string_equal(err.msg, "the image found for its parent is another one");
	assert_int_equal(image_open(&src, NULL, &im, &err), -ENOLINK);
	source_release(&src);
	close(base.f.fd);
	close(other.f.fd);
	close(delta.f.fd);
}

/* The last one builds on the first one, which builds on the last one. */
static void test_loop(void **state)
{
	struct layer_file f[2];
	struct plain p;
	struct err err = ERR_INIT;
	struct image *im;

	for (int i = 0; i < 2; i++) {
		memset(f[i].id, i + 1, 16);
		p = (struct plain){.o = {.codec = CODEC_NONE, .id = f[i].id}};
		memset(p.o.parent_id, 2 - i, 16);
		f[i].fd = memfd_create("layer", MFD_CLOEXEC);
		check(image_writer_new(f[i].fd, &p.o, &p.w, &err), &err);
		sample_init(&p.s);
		p.s.mm[0].before_mm = 1;
		plain_records(&p);
		plain_chunk(&p, 1, CHUNK_BEFORE, 0, 1);
		plain_end(&p);
	}
	assert_int_equal(open_plain(f, 2, &im, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "it is among its own parents"));
	close(f[0].fd);
	close(f[1].fd);
}

static void test_too_long(void **state)
{
	static struct layer_file f[LAYERS_MAX + 1];
	struct err err = ERR_INIT;
	struct image *im;

	for (size_t i = 0; i <= LAYERS_MAX; i++) {
		struct plain p;

		plain_start(&p, i ? &f[i - 1] : NULL);
		p.s.mm[0].before_mm = i ? 1 : 0;
		plain_records(&p);
		plain_chunk(&p, 1, i ? CHUNK_BEFORE : CHUNK_DATA, 0, 1);
		plain_end(&p);
		f[i] = p.f;
	}
	assert_int_equal(open_plain(f, LAYERS_MAX + 1, &im, &err), -E2BIG);
	check(open_plain(f, LAYERS_MAX, &im, &err), &err);
	assert_int_equal(im->nchunks, 1);
	image_free(im);
	for (size_t i = 0; i <= LAYERS_MAX; i++)
		close(f[i].fd);
}

/* ---- the writer ---- */

static void test_early_misuse(void **state)
{
	struct extent e = {SAMPLE_HEAP, CPX_PAGE_SIZE};
	uint8_t page[CPX_PAGE_SIZE] = {1};
	struct err err = ERR_INIT;
	struct plain p;

	plain_start(&p, NULL);
	assert_true(image_write_chunk(p.w, 0, CHUNK_DATA, &e, 1, page, &err) < 0);
	assert_true(image_write_chunk(p.w, 1, CHUNK_INHERIT, &e, 1, NULL, &err) < 0);
	assert_true(image_write_chunk(p.w, 1, CHUNK_BEFORE, &e, 1, NULL, &err) < 0);
	check(image_write_chunk(p.w, 1, CHUNK_DATA, &e, 1, page, &err), &err);
	check(image_write_chunk(p.w, 1, CHUNK_ZERO, &e, 1, NULL, &err), &err);
	plain_records(&p);
	plain_chunk(&p, 1, CHUNK_DATA, 0, 1);
	assert_true(image_write_record(p.w, RECORD_TASK, &p.s.root.base, &err) < 0);
	plain_end(&p);
	close(p.f.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_chains),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_shared_pages_stay_shared),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_wrong_parent),
		cmocka_unit_test(test_loop),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_early_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
