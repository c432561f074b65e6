/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The seccomp filters of an image: each is in the first task that has it, numbered from 1 in the
 * order of the image, after the one below it. Limits as in kernel/seccomp.c (BPF_MAXINSNS,
 * MAX_INSNS_PER_PATH).
 */
#include "image/reader.h"
#include "base/util.h"

#define INSN_SIZE      8 /* struct sock_filter */
#define PATH_INSNS_MAX 32768
#define PATH_PENALTY   4

struct filter_entry {
	Cpx__SeccompFilter *msg;
	uint32_t depth, insns; /* of the whole chain */
};

static const struct filter_entry *find(const struct image *im, uint32_t id)
{
	const struct filter_list *l = &im->private->filters;

	return id && id <= l->n ? &l->entry[id - 1] : NULL;
}

Cpx__SeccompFilter *image_seccomp_filter(const struct image *im, uint32_t id)
{
	const struct filter_entry *e = find(im, id);

	return e ? e->msg : NULL;
}

size_t image_seccomp_depth(const struct image *im, uint32_t id)
{
	const struct filter_entry *e = find(im, id);

	return e ? e->depth : 0;
}

static int bad(struct err *err, uint32_t id, const char *what)
{
	return err_set(err, -EBADMSG, "image is corrupt: seccomp filter %u %s", id, what);
}

static int add(struct image *im, Cpx__SeccompFilter *f, struct err *err)
{
	struct filter_list *l = &im->private->filters;
	const struct filter_entry *parent = find(im, f->parent);
	struct filter_entry e = {f, 1, (uint32_t)(f->program.len / INSN_SIZE) + PATH_PENALTY};

	if (f->id != l->n + 1)
		return bad(err, f->id, "is out of order");
	if (f->parent && !parent)
		return bad(err, f->id, "comes before the one below it");
	if (f->program.len % INSN_SIZE)
		return bad(err, f->id, "has a bad length");
	if (parent) {
		e.depth += parent->depth;
		e.insns += parent->insns;
	}
	if (e.insns > PATH_INSNS_MAX)
		return bad(err, f->id, "has too many below it");
	if (grow(&l->entry, &l->max, l->n, sizeof(*l->entry)) < 0)
		return err_nomem(err);
	l->entry[l->n++] = e;
	return 0;
}

int filters_check(struct image *im, struct err *err)
{
	for (size_t i = 0; i < im->ntasks; i++) {
		const Cpx__Task *t = im->task[i];
		int r = 0;

		for (size_t k = 0; k < t->n_seccomp_filter && r == 0; k++)
			r = add(im, t->seccomp_filter[k], err);
		for (size_t k = 0; k < t->n_thread && r == 0; k++)
			if (t->thread[k]->seccomp && !find(im, t->thread[k]->seccomp))
				r = bad(err, t->thread[k]->seccomp, "is not there");
		if (r < 0)
			return r;
	}
	return 0;
}

void filters_release(struct filter_list *l)
{
	free(l->entry);
	*l = (struct filter_list){0};
}
