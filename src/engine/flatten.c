/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cpx_flatten(): one image of all its layers. It is the same image, with the same id: deltas that build on
 * the one build on the other.
 */
#include "base/interrupt.h"
#include "base/util.h"
#include "engine/output.h"
#include "engine/parents.h"
#include "engine/result.h"

#include <fcntl.h>
#include <sys/stat.h>

struct flatten {
	const struct cpx_flatten_options *o;
	struct cpx_result *result;
	struct source source;
	struct parents parents;
	struct image *im;
	struct output output;
	struct image_writer *w;
	struct refusals refusals;
	uint8_t *chunk, *pack; /* CHUNK_MAX each */
	uint32_t owner;	       /* of what is in pack */
	struct extent ext[EXTENTS_MAX];
	unsigned n;
	uint32_t bytes;
	int fd;
};

/* ---- opening ---- */

static int open_input(struct flatten *f, struct err *err)
{
	const char *input = f->o->input;
	int r;

	f->fd = strcmp(input, "-") == 0 ? fcntl(f->o->in_fd, F_DUPFD_CLOEXEC, 0) :
					  open(input, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (f->fd < 0)
		return err_sys(err, -errno, "cannot open");
	r = source_open_fd(&f->source, f->fd, err);
	if (r == 0 && !f->source.is_seekable)
		r = image_spool(&f->source, NULL, 0, err);
	if (r == 0)
		r = parents_init(&f->parents, input, &f->o->parents, err);
	return r < 0 ? r : image_open(&f->source, &f->parents.finder, &f->im, err);
}

/* In its own place the image may be flat; others may build on its parents. */
static bool would_overwrite(const struct flatten *f)
{
	struct stat st, own;

	if (strcmp(f->o->output, "-") == 0 || stat(f->o->output, &st) < 0)
		return false;
	for (const struct image *im = f->im->parent; im; im = im->parent)
		if (fstat(im->source->fd, &own) == 0 && own.st_dev == st.st_dev &&
		    own.st_ino == st.st_ino)
			return true;
	return false;
}

/* ---- records ---- */

static void forget_layers(struct image *im)
{
	im->info->parent_path.len = 0;
	for (size_t i = 0; i < im->nmms; i++)
		im->mm[i]->before_mm = im->mm[i]->early = 0;
	for (size_t i = 0; i < im->nobjects; i++)
		im->object[i]->before_object = im->object[i]->early = 0;
}

static int write_records(struct flatten *f, struct err *err)
{
	struct image *im = f->im;
	int r = image_write_record(f->w, RECORD_IMAGE, &im->info->base, err);

	for (size_t i = 0; i < im->ntasks && r == 0; i++)
		r = image_write_record(f->w, RECORD_TASK, &im->task[i]->base, err);
	for (size_t i = 0; i < im->nmms && r == 0; i++)
		r = image_write_record(f->w, RECORD_MM, &im->mm[i]->base, err);
	for (size_t i = 0; i < im->nobjects && r == 0; i++)
		r = image_write_record(f->w, RECORD_OBJECT, &im->object[i]->base, err);
	for (size_t i = 0; i < im->nfd_tables && r == 0; i++)
		r = image_write_record(f->w, RECORD_FD_TABLE, &im->fd_table[i]->base, err);
	for (size_t i = 0; i < im->nfiles && r == 0; i++)
		r = image_write_record(f->w, RECORD_FILE, &im->file[i]->base, err);
	return r;
}

/* ---- chunks ---- */

static int flush(struct flatten *f, struct err *err)
{
	unsigned n = f->n;

	f->n = 0;
	f->bytes = 0;
	return n ? image_write_chunk(f->w, f->owner, CHUNK_DATA, f->ext, n, f->pack, err) : 0;
}

static bool has_room(const struct flatten *f, uint32_t owner, const struct piece *p)
{
	const struct extent *last = &f->ext[f->n - 1];

	return f->owner == owner && f->n < EXTENTS_MAX && f->bytes + p->len <= CHUNK_MAX &&
	       last->addr + last->len <= p->addr;
}

static int add_piece(struct flatten *f, uint32_t owner, const struct piece *p, struct err *err)
{
	struct extent *last;
	int r = f->n && !has_room(f, owner, p) ? flush(f, err) : 0;

	if (r < 0)
		return r;
	f->owner = owner;
	memcpy(f->pack + f->bytes, f->chunk + p->from, p->len);
	f->bytes += (uint32_t)p->len;
	last = f->n ? &f->ext[f->n - 1] : NULL;
	if (last && last->addr + last->len == p->addr)
		last->len += p->len;
	else
		f->ext[f->n++] = (struct extent){p->addr, p->len};
	return 0;
}

static int write_plain(struct flatten *f, const struct chunk_ref *c, struct err *err)
{
	struct extent ext[EXTENTS_MAX];
	int r = flush(f, err);

	for (unsigned i = 0; i < c->n; i++)
		ext[i] = (struct extent){c->piece[i].addr, c->piece[i].len};
	return r < 0 ? r : image_write_chunk(f->w, c->object, c->kind, ext, c->n, NULL, err);
}

static int write_chunk(struct flatten *f, const struct chunk_ref *c, struct err *err)
{
	int r = interrupt_check(err);

	if (r == 0 && c->kind != CHUNK_DATA)
		return write_plain(f, c, err);
	if (r == 0)
		r = image_read_chunk(c, f->chunk, err);
	for (unsigned i = 0; i < c->n && r == 0; i++)
		r = add_piece(f, c->object, &c->piece[i], err);
	for (unsigned i = 0; i < c->n; i++)
		f->result->memory_bytes += c->piece[i].len;
	return r;
}

static int write_chunks(struct flatten *f, struct err *err)
{
	const struct cpx_progress *p = &f->o->progress;
	int r = 0;

	for (size_t i = 0; i < f->im->nchunks && r == 0; i++) {
		r = write_chunk(f, &f->im->chunk[i], err);
		if (p->update)
			p->update(p->data, "writing", i, f->im->nchunks);
	}
	return r < 0 ? r : flush(f, err);
}

/* ---- the function ---- */

static int write_image(struct flatten *f, struct err *err)
{
	struct image_writer_options o = {.id = f->im->id};
	int r;

	output_format(&f->output, f->o->compress, f->o->level, &o);
	r = image_writer_new(f->output.fd, &o, &f->w, err);
	forget_layers(f->im);
	if (r == 0)
		r = write_records(f, err);
	if (r == 0)
		r = write_chunks(f, err);
	if (r == 0)
		r = image_writer_seal(f->w, &f->result->image_bytes, err);
	return r < 0 ? r : output_commit(&f->output, err);
}

static int flatten(struct flatten *f, struct err *err)
{
	const char *name = strcmp(f->o->input, "-") ? f->o->input : "standard input";
	int r = open_input(f, err);

	if (r == -ENOLINK)
		return refuse(&f->refusals, 0, NULL, name, "%s", err->msg);
	if (r < 0)
		return err_context(err, "%s", name);
	if (would_overwrite(f))
		return refuse(&f->refusals, 0, NULL, f->o->output,
			      "is an image that others may build on as this one does: choose another name");
	f->chunk = malloc(CHUNK_MAX);
	f->pack = malloc(CHUNK_MAX);
	if (!f->chunk || !f->pack)
		return err_nomem(err);
	r = output_open(&f->output, f->o->output, f->o->out_fd, err);
	return r < 0 ? r : write_image(f, err);
}

int cpx_flatten(const struct cpx_flatten_options *o, struct cpx_result *r)
{
	struct flatten f = {.o = o, .result = r, .output = OUTPUT_INIT, .fd = -1, .source.fd = -1};
	struct err err = ERR_INIT;
	int ret = flatten(&f, &err);

	ret = result_set(r, ret, &err, &f.refusals);
	image_writer_free(f.w);
	output_release(&f.output);
	image_free(f.im);
	source_release(&f.source);
	parents_release(&f.parents);
	refusals_release(&f.refusals);
	free(f.chunk);
	free(f.pack);
	if (f.fd >= 0)
		close(f.fd);
	return ret;
}
