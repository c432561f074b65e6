/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image on one page, for people. Names and paths come from the image: what could steer a
 * terminal is printed as '?'.
 */
#include "engine/info.h"
#include "base/util.h"

#include <inttypes.h>
#include <sys/wait.h>
#include <time.h>

#define LABEL	   "%-12s"
#define PATHS_MAX  6 /* of one kind of descriptor; the rest is counted */
#define INDENT_MAX 40

static void print_bytes(FILE *out, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		fputc(data[i] < 0x20 || data[i] == 0x7f ? '?' : data[i], out);
}

static void print_string(FILE *out, const char *s)
{
	print_bytes(out, (const uint8_t *)s, strlen(s));
}

static const char *human_size(uint64_t bytes, char buf[32])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 32, u && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static void print_origin(const struct info *info, FILE *out)
{
	const Cpx__Host *host = info->im->info->host;
	time_t seconds = host->realtime_ns / 1000000000;
	char when[64] = "at an unknown time", size[32];
	struct tm tm;

	if (localtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
	fprintf(out, LABEL, "image");
	for (int i = 0; i < 16; i++)
		fprintf(out, "%02x", info->im->id[i]);
	fprintf(out, ", format %u", info->im->version);
	if (info->size)
		fprintf(out, ", %s", human_size(info->size, size));
	fprintf(out, "\n" LABEL "%s on ", "made", when);
	print_string(out, host->hostname);
	fputs(" (", out);
	print_string(out, host->arch);
	fputs(", Linux ", out);
	print_string(out, host->kernel);
	fputs(host->cpx_version && *host->cpx_version ? ") by cpx " : ")", out);
	print_string(out, host->cpx_version ? host->cpx_version : "");
	fputc('\n', out);
	if (host->cpu_model && *host->cpu_model) {
		fprintf(out, LABEL, "processor");
		print_string(out, host->cpu_model);
		fputc('\n', out);
	}
}

/* One line for each image that this one builds on, as far as they are found. */
static void print_parents(const struct info *info, FILE *out)
{
	for (const struct image *im = info->im->parent; im; im = im->parent) {
		const char *path = parents_path(&info->parents, im);

		fprintf(out, LABEL, im == info->im->parent ? "builds on" : "");
		for (int i = 0; i < 16; i++)
			fprintf(out, "%02x", im->id[i]);
		fputs(", ", out);
		print_string(out, path ? path : "?");
		fputc('\n', out);
	}
	if (info->missing.code) {
		fprintf(out, LABEL, "incomplete");
		print_string(out, info->missing.msg);
		fputc('\n', out);
	}
}

/* ---- the tree ---- */

struct tree_walk {
	const struct info *info;
	FILE *out;
	const Cpx__Task **order; /* by parent, then pid */
	size_t n;
};

static int compare_tasks(const void *a, const void *b)
{
	const Cpx__Task *x = *(Cpx__Task *const *)a, *y = *(Cpx__Task *const *)b;

	if (x->ppid != y->ppid)
		return x->ppid < y->ppid ? -1 : 1;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static size_t first_child(const struct tree_walk *w, uint32_t ppid)
{
	size_t lo = 0, hi = w->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (w->order[mid]->ppid < ppid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void print_zombie(const Cpx__Task *t, FILE *out)
{
	if (WIFSIGNALED((int)t->exit_code))
		fprintf(out, "zombie, killed by signal %d", WTERMSIG((int)t->exit_code));
	else
		fprintf(out, "zombie, exit status %d", WEXITSTATUS((int)t->exit_code));
}

static void print_exe(const struct info *info, const Cpx__Mm *mm, FILE *out)
{
	const Cpx__File *f = image_file(info->im, mm->exe_file);

	if (!f || !f->regular || f->regular->path->path.len == 0)
		return;
	fputs(", ", out);
	print_bytes(out, f->regular->path->path.data, f->regular->path->path.len);
}

static void print_live(const struct info *info, const Cpx__Task *t, FILE *out)
{
	const Cpx__Mm *mm = image_mm(info->im, t->mm);
	char size[32];

	fprintf(out, "%zu thread%s", t->n_thread, plural(t->n_thread));
	if (mm->pid == t->pid)
		fprintf(out, ", %s", human_size(info_mm_bytes(info, mm->id)->bytes, size));
	else
		fprintf(out, ", memory of %u", mm->pid);
	if (t->state == CPX__TASK__STATE__STOPPED)
		fprintf(out, ", stopped");
	print_exe(info, mm, out);
}

static void print_task(const struct tree_walk *w, const Cpx__Task *t, unsigned depth)
{
	fprintf(w->out, "  %*s%u ", (int)MIN(depth * 2, INDENT_MAX), "", t->pid);
	print_bytes(w->out, t->comm.data, t->comm.len);
	fputs("  ", w->out);
	if (t->state == CPX__TASK__STATE__ZOMBIE)
		print_zombie(t, w->out);
	else
		print_live(w->info, t, w->out);
	fputc('\n', w->out);
}

/* Depth first without recursion: a tree may be as deep as there are tasks. The next task after
 * t's last descendant is t's next brother. */
static const Cpx__Task *next_task(const struct tree_walk *w, const Cpx__Task *t, unsigned *depth)
{
	size_t i = first_child(w, t->pid);

	if (i < w->n && w->order[i]->ppid == t->pid) {
		(*depth)++;
		return w->order[i];
	}
	while (t && t->ppid) {
		const Cpx__Task **at =
			bsearch(&t, w->order, w->n, sizeof(*w->order), compare_tasks);

		if (at + 1 < w->order + w->n && at[1]->ppid == t->ppid)
			return at[1];
		t = image_task(w->info->im, t->ppid);
		(*depth)--;
	}
	return NULL;
}

static int print_tree(const struct info *info, FILE *out, struct err *err)
{
	_cleanup_free_ const Cpx__Task **order = calloc(info->im->ntasks, sizeof(*order));
	struct tree_walk w = {info, out, order, info->im->ntasks};
	const struct image *im = info->im;
	size_t threads = 0;
	unsigned depth = 0;

	if (!order)
		return err_nomem(err);
	for (size_t i = 0; i < im->ntasks; i++) {
		order[i] = im->task[i];
		threads += im->task[i]->n_thread;
	}
	qsort(order, w.n, sizeof(*order), compare_tasks);
	fprintf(out, LABEL "%zu task%s, %zu thread%s\n", "tree", im->ntasks, plural(im->ntasks),
		threads, plural(threads));
	for (const Cpx__Task *t = order[0]; t; t = next_task(&w, t, &depth))
		print_task(&w, t, depth);
	return 0;
}

/* ---- memory ---- */

static void print_memory(const struct info *info, FILE *out)
{
	const struct info_totals *t = &info->totals;
	char bytes[32], stored[32], other[32];

	fprintf(out, LABEL "%s", "memory", human_size(t->bytes, bytes));
	if (t->bytes)
		fprintf(out, ", stored in %s (%.0f%%%s%s)", human_size(t->stored, stored),
			100.0 * t->stored / t->bytes, t->chunks[CODEC_LZ4] ? ", lz4" : "",
			t->chunks[CODEC_ZSTD] ? ", zstd" : "");
	if (t->before)
		fprintf(out, "; %s of it in %s", human_size(t->before, other),
			info->missing.code ? "earlier layers" : "the images that it builds on");
	if (t->inherited)
		fprintf(out, "; %s shared copy-on-write with the parent",
			human_size(t->inherited, other));
	if (t->zero)
		fprintf(out, "; %s zero in files", human_size(t->zero, other));
	fputc('\n', out);
}

static void print_objects(const struct info *info, FILE *out)
{
	uint64_t sizes[8] = {0}, count[8] = {0};
	char size[32];

	for (size_t i = 0; i < info->im->nobjects; i++) {
		unsigned type = info->im->object[i]->type;

		if (type < ARRAY_SIZE(count)) {
			count[type]++;
			sizes[type] += info->im->object[i]->size;
		}
	}
	for (unsigned type = 0; type < ARRAY_SIZE(count); type++) {
		static const char *const names[ARRAY_SIZE(count)] = {
			[CPX__OBJECT__TYPE__SHM_ANON] = "shared anonymous memory",
			[CPX__OBJECT__TYPE__MEMFD] = "memfd",
			[CPX__OBJECT__TYPE__SYSV] = "System V segments",
			[CPX__OBJECT__TYPE__GHOST_FILE] = "deleted files",
			[CPX__OBJECT__TYPE__HUGETLB] = "hugetlb memory",
		};

		if (count[type])
			fprintf(out, LABEL "%" PRIu64 " of %s, %s\n", "shared", count[type],
				names[type] ? names[type] : "an unknown kind",
				human_size(sizes[type], size));
	}
}

/* ---- descriptors ---- */

/* The body of a File: its one field that is a message of a kind of descriptor (numbers from 10). */
static const ProtobufCFieldDescriptor *body_field(const Cpx__File *f)
{
	const ProtobufCMessageDescriptor *d = f->base.descriptor;

	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &d->fields[i];

		if (field->id >= 10 && field->type == PROTOBUF_C_TYPE_MESSAGE &&
		    field->label != PROTOBUF_C_LABEL_REPEATED &&
		    *(void *const *)((const uint8_t *)f + field->offset))
			return field;
	}
	return NULL;
}

/* The path of a body, whether it has a Path or a plain one. */
static const ProtobufCBinaryData *body_path(const Cpx__File *f)
{
	const ProtobufCMessage *body =
		*(ProtobufCMessage *const *)((const uint8_t *)f + body_field(f)->offset);
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field_by_name(body->descriptor, "path");
	const void *p = field ? (const uint8_t *)body + field->offset : NULL;

	if (!field || field->label == PROTOBUF_C_LABEL_REPEATED)
		return NULL;
	if (field->type == PROTOBUF_C_TYPE_BYTES)
		return p;
	if (field->descriptor == &cpx__path__descriptor && *(Cpx__Path *const *)p)
		return &(*(Cpx__Path *const *)p)->path;
	return NULL;
}

struct file_use {
	const Cpx__File *file;
	unsigned n; /* descriptors that refer to it */
};

/* "unix_socket" is a name for programs. */
static void print_kind_name(const char *name, FILE *out)
{
	char text[32];

	snprintf(text, sizeof(text), "%s", name);
	for (char *c = text; *c; c++)
		if (*c == '_')
			*c = ' ';
	fprintf(out, "  %-14s", text);
}

static void print_kind(const ProtobufCFieldDescriptor *kind, const struct file_use *use, size_t n,
		       FILE *out)
{
	unsigned descriptors = 0, paths = 0;

	for (size_t i = 0; i < n; i++)
		if (use[i].n && body_field(use[i].file) == kind)
			descriptors += use[i].n;
	if (!descriptors)
		return;
	print_kind_name(kind->name, out);
	fprintf(out, "%6u", descriptors);
	for (size_t i = 0; i < n; i++) {
		const ProtobufCBinaryData *path;

		if (!use[i].n || body_field(use[i].file) != kind)
			continue;
		path = body_path(use[i].file);
		if (!path || path->len == 0 || paths++ >= PATHS_MAX)
			continue;
		fputs(paths > 1 ? ", " : "  ", out);
		print_bytes(out, path->data, path->len);
	}
	if (paths > PATHS_MAX)
		fprintf(out, " and %u more", paths - PATHS_MAX);
	fputc('\n', out);
}

static int compare_uses(const void *a, const void *b)
{
	const struct file_use *x = a, *y = b;

	return x->file->id < y->file->id ? -1 : x->file->id > y->file->id;
}

/* Returns the number of descriptors in all tables. */
static size_t count_uses(const struct image *im, struct file_use *use)
{
	size_t n = 0;

	for (size_t i = 0; i < im->nfiles; i++)
		use[i].file = im->file[i];
	qsort(use, im->nfiles, sizeof(*use), compare_uses);
	for (size_t i = 0; i < im->nfd_tables; i++)
		for (size_t j = 0; j < im->fd_table[i]->n_fd; j++, n++) {
			const Cpx__File *f = image_file(im, im->fd_table[i]->fd[j]->file);
			struct file_use key = {.file = f}, *found;

			found = bsearch(&key, use, im->nfiles, sizeof(*use), compare_uses);
			found->n++;
		}
	return n;
}

static int print_descriptors(const struct info *info, FILE *out, struct err *err)
{
	const ProtobufCMessageDescriptor *d = &cpx__file__descriptor;
	const struct image *im = info->im;
	_cleanup_free_ struct file_use *use = calloc(im->nfiles + 1, sizeof(*use));
	size_t n;

	if (!use)
		return err_nomem(err);
	n = count_uses(im, use);
	fprintf(out, LABEL "%zu in %zu table%s\n", "descriptors", n, im->nfd_tables,
		plural(im->nfd_tables));
	for (unsigned i = 0; i < d->n_fields; i++)
		if (d->fields[i].id >= 10)
			print_kind(&d->fields[i], use, im->nfiles, out);
	return 0;
}

int info_print_text(const struct info *info, FILE *out, struct err *err)
{
	int r;

	print_origin(info, out);
	print_parents(info, out);
	r = print_tree(info, out, err);
	if (r < 0)
		return r;
	print_memory(info, out);
	print_objects(info, out);
	r = print_descriptors(info, out, err);
	info_print_outside(info->im, out);
	return r;
}
