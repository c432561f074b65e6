/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Flags of mappings from before the freeze. Reads /proc/PID/smaps, maps, stat and status. A twin has no memory
 * locks (kernel/fork.c, dup_mmap), and what is MADV_DONTFORK has to be known for sure before there is one
 * (unforked.c): where a task has memory of either kind nothing is taken from before the freeze.
 */
#include "res/preview.h"

#include "base/util.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#define LARGE_PAGES                                                                                \
	(16UL << 20 >> CPX_PAGE_SHIFT) /* below that, half a millisecond is not worth it */
#define MANY_BYTES (12UL << 10)	       /* of /proc/PID/maps: a hundred mappings and more, likewise */
#define MANY_TASKS 8		       /* for so many it is worth it, however small they are */

struct seen_vma {
	uint64_t start, end, vm_flags;
	unsigned pkey;
};

struct seen {
	pid_t pid;
	struct proc_vmas vmas; /* until they are taken */
	struct seen_vma *vma;  /* those that were taken */
	size_t n;
};

/* The comparison with the copies, done by a thread of its own. */
struct verifier {
	pthread_t thread;
	bool is_running;
	struct dump_ctx *c;
	struct preview_copy *copy;
	size_t n;
	struct err err;
	int ret;
};

struct preview {
	struct seen *seen;
	size_t n, max;
	struct verifier verifier;
};

/* ---- before the freeze ---- */

/* Has more than MANY_BYTES to say about its mappings? A read gives a page of it. */
static bool has_many_mappings(int dir)
{
	_cleanup_close_ int fd = -1;
	char page[CPX_PAGE_SIZE];
	size_t sum = 0;
	ssize_t n = 1;

	if (proc_open_file(dir, "maps", O_RDONLY, &fd, NULL) < 0)
		return false;
	for (; n > 0 && sum < MANY_BYTES; sum += n > 0 ? (size_t)n : 0)
		n = read(fd, page, sizeof(page));
	return sum >= MANY_BYTES;
}

static bool is_large(int dir)
{
	struct proc_stat st;

	return proc_stat(dir, &st, NULL) == 0 &&
	       (st.rss >= (int64_t)LARGE_PAGES || has_many_mappings(dir));
}

static int look_at(struct preview *p, int proc_fd, pid_t pid, bool is_one_of_many)
{
	_cleanup_close_ int dir = -1;
	struct seen *s;

	if (proc_open(proc_fd, pid, 0, &dir, NULL) < 0 || !(is_one_of_many || is_large(dir)))
		return 0;
	if (grow(&p->seen, &p->max, p->n, sizeof(*p->seen)) < 0)
		return -ENOMEM;
	s = &p->seen[p->n];
	*s = (struct seen){.pid = pid};
	if (proc_smaps(dir, &s->vmas, NULL) == 0)
		p->n++;
	return 0;
}

struct pids {
	pid_t *pid;
	size_t n, max;
};

/* The tree as it is at this moment, parents first. */
static int list_tree(struct pids *ps, int proc_fd, pid_t root, bool no_children)
{
	if (grow(&ps->pid, &ps->max, 0, sizeof(*ps->pid)) < 0)
		return -ENOMEM;
	ps->pid[ps->n++] = root;
	for (size_t at = 0; !no_children && at < ps->n; at++) {
		_cleanup_free_ pid_t *child = NULL;
		size_t n = 0;

		if (proc_children_of(proc_fd, ps->pid[at], &child, &n, NULL) < 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			if (grow(&ps->pid, &ps->max, ps->n, sizeof(*ps->pid)) < 0)
				return -ENOMEM;
			ps->pid[ps->n++] = child[i];
		}
	}
	return 0;
}

void preview_read(struct dump_ctx *c, pid_t root, bool no_children)
{
	struct pids ps = {0};

	if (!c->preview)
		c->preview = calloc(1, sizeof(*c->preview));
	if (c->preview && list_tree(&ps, c->proc_fd, root, no_children) == 0)
		for (size_t i = 0; i < ps.n; i++)
			if (look_at(c->preview, c->proc_fd, ps.pid[i], ps.n >= MANY_TASKS) < 0)
				break;
	free(ps.pid);
}

/* ---- frozen ---- */

static struct seen *find(const struct dump_ctx *c, pid_t pid)
{
	for (size_t i = 0; c->preview && i < c->preview->n; i++)
		if (c->preview->seen[i].pid == pid)
			return &c->preview->seen[i];
	return NULL;
}

static bool is_same_vma(const struct proc_vma *a, const struct proc_vma *b)
{
	return a->start == b->start && a->end == b->end && a->prot == b->prot &&
	       a->is_shared == b->is_shared && a->offset == b->offset && a->ino == b->ino &&
	       a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
	       a->is_deleted == b->is_deleted && strcmp(a->path, b->path) == 0;
}

static bool has_any(const struct proc_vmas *v, uint64_t flags)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->vma[i].vm_flags & flags)
			return true;
	return false;
}

static bool is_unlocked(struct dump_ctx *c, const struct tracee *t)
{
	const struct proc_status *st;

	return attr_status(c, t, NULL, &st, NULL) == 0 && st->vm_lck == 0;
}

static bool is_still_true(struct dump_ctx *c, const struct tracee *t, const struct seen *s, int dir)
{
	struct proc_vmas now = {0};
	bool same = !has_any(&s->vmas, PVM_LOCKED | PVM_DONTFORK) && is_unlocked(c, t) &&
		    proc_maps(dir, &now, NULL) == 0 &&
		    now.n == s->vmas.n;

	for (size_t i = 0; i < now.n && same; i++)
		same = is_same_vma(&now.vma[i], &s->vmas.vma[i]);
	proc_vmas_release(&now);
	return same;
}

static int take(struct seen *s, struct proc_vmas *ret)
{
	s->vma = calloc(s->vmas.n + 1, sizeof(*s->vma));
	if (!s->vma)
		return -ENOMEM;
	for (size_t i = 0; i < s->vmas.n; i++) {
		const struct proc_vma *v = &s->vmas.vma[i];

		s->vma[s->n++] = (struct seen_vma){v->start, v->end, v->vm_flags, v->pkey};
	}
	*ret = s->vmas;
	s->vmas = (struct proc_vmas){0};
	return 0;
}

int preview_smaps(struct dump_ctx *c, const struct tracee *t, int dir, struct proc_vmas *ret,
		  struct err *err)
{
	struct seen *s = find(c, t->pid);

	if (!s || s->vma || !is_still_true(c, t, s, dir))
		return proc_smaps(dir, ret, err);
	return take(s, ret) < 0 ? err_nomem(err) : 0;
}

/* ---- afterwards ---- */

/* A twin is not watched, and what runs is not any more by then. */
#define CHANGES_BY_US PVM_UFFD_WP

static bool is_unchanged(const struct seen_vma *had, const struct proc_vmas *now, bool runs)
{
	const struct proc_vma *v = proc_vmas_find(now, had->start);

	if (!v)
		return runs;
	if (v->start != had->start || v->end != had->end)
		return runs;
	return !((v->vm_flags ^ had->vm_flags) & ~(uint64_t)CHANGES_BY_US) && v->pkey == had->pkey;
}

static int verify_one(struct dump_ctx *c, const struct preview_copy *copy, struct err *err)
{
	const struct seen *s = find(c, copy->pid);
	struct proc_vmas now = {0};
	_cleanup_close_ int dir = -1;
	int r;

	if (!s || !s->vma)
		return 0;
	r = proc_open(c->proc_fd, copy->copy, 0, &dir, err);
	if (r == 0)
		r = proc_smaps(dir, &now, err);
	for (size_t i = 0; i < s->n && r == 0; i++)
		if (!is_unchanged(&s->vma[i], &now, copy->runs))
			r = err_set(err, -EAGAIN,
				    "the flags of mapping %llx-%llx were changed meanwhile",
				    (unsigned long long)s->vma[i].start,
				    (unsigned long long)s->vma[i].end);
	proc_vmas_release(&now);
	return r;
}

static void *verify_all(void *arg)
{
	struct verifier *v = arg;

	for (size_t i = 0; i < v->n && v->ret == 0; i++)
		v->ret = verify_one(v->c, &v->copy[i], &v->err);
	return NULL;
}

/* Signals are the main thread's. Without a thread it is done here and now. */
static void start_verifier(struct verifier *v)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	v->is_running = pthread_create(&v->thread, NULL, verify_all, v) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!v->is_running)
		verify_all(v);
}

int preview_verify_begin(struct dump_ctx *c, const struct preview_copy *copy, size_t n,
			 struct err *err)
{
	struct verifier *v = c->preview ? &c->preview->verifier : NULL;

	if (!v || !c->preview->n)
		return 0;
	*v = (struct verifier){.c = c, .n = n};
	v->copy = calloc(n + 1, sizeof(*copy));
	if (!v->copy)
		return err_nomem(err);
	memcpy(v->copy, copy, n * sizeof(*copy));
	start_verifier(v);
	return 0;
}

static void verifier_release(struct verifier *v)
{
	if (v->is_running)
		pthread_join(v->thread, NULL);
	free(v->copy);
	*v = (struct verifier){.ret = v->ret, .err = v->err};
}

int preview_verify_end(struct dump_ctx *c, struct err *err)
{
	if (!c->preview)
		return 0;
	verifier_release(&c->preview->verifier);
	if (c->preview->verifier.ret && err)
		*err = c->preview->verifier.err;
	return c->preview->verifier.ret;
}

void preview_release(struct dump_ctx *c)
{
	if (c->preview)
		verifier_release(&c->preview->verifier);
	for (size_t i = 0; c->preview && i < c->preview->n; i++) {
		proc_vmas_release(&c->preview->seen[i].vmas);
		free(c->preview->seen[i].vma);
	}
	if (c->preview)
		free(c->preview->seen);
	free(c->preview);
	c->preview = NULL;
}
