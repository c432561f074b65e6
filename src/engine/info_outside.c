/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an image says about ends outside of the tree, for people. */
#include "engine/info.h"
#include "base/util.h"

#include <inttypes.h>

static void print_bytes(FILE *out, const ProtobufCBinaryData *b)
{
	for (size_t i = 0; i < b->len; i++)
		fputc(b->data[i] < 0x20 || b->data[i] == 0x7f ? '?' : b->data[i], out);
}

/* "fd 1 of 4242", of the first task that has it. */
static void print_holder(const struct image *im, const Cpx__File *f, FILE *out)
{
	for (size_t i = 0; i < im->ntasks; i++) {
		const Cpx__FdTable *t = image_fd_table(im, im->task[i]->fd_table);

		for (size_t k = 0; t && k < t->n_fd; k++)
			if (t->fd[k]->file == f->id) {
				fprintf(out, "fd %u of %u", t->fd[k]->fd, im->task[i]->pid);
				return;
			}
	}
	fputs("on its way in a message", out);
}

static void print_other(const Cpx__External *e, FILE *out)
{
	if (!e->pid) {
		fputs(", the other end with an unknown process", out);
		return;
	}
	fprintf(out, ", the other end with %u (", e->pid);
	print_bytes(out, &e->comm);
	fputc(')', out);
}

static void print_what(const Cpx__External *e, FILE *out)
{
	fputs("; at restore: ", out);
	switch (e->what) {
	case CPX__EXTERNAL__WHAT__INHERIT:
		if (e->same_number)
			fputs("inherit", out);
		else
			fprintf(out, "inherit:%u", e->fd);
		break;
	case CPX__EXTERNAL__WHAT__FILE:
		fputs("file:", out);
		print_bytes(out, &e->path);
		break;
	case CPX__EXTERNAL__WHAT__RECONNECT:
		fputs("connected again", out);
		break;
	default:
		fputs("null", out);
		break;
	}
	fputc('\n', out);
}

static void print_name(const Cpx__File *f, FILE *out)
{
	const Cpx__UnixSocket *b = f->unix_socket;

	if (f->pipe) {
		fprintf(out, "pipe:[%" PRIu64 "], ", f->pipe->ino);
		return;
	}
	fputs("Unix socket to ", out);
	print_bytes(out, &b->peer_name);
	fputs(", ", out);
}

void info_print_outside(const struct image *im, FILE *out)
{
	for (size_t i = 0; i < im->nfiles; i++) {
		const Cpx__File *f = im->file[i];
		const Cpx__External *e = f->pipe	  ? f->pipe->external
					 : f->unix_socket ? f->unix_socket->external
							  : NULL;

		if (!e)
			continue;
		fprintf(out, "%-12s", "outside");
		print_name(f, out);
		print_holder(im, f, out);
		print_other(e, out);
		print_what(e, out);
	}
}
