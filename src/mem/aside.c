/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that a twin gets empty (MADV_WIPEONFORK) or may lose while the
 * original runs on (private huge pages): copied into a memfd while the task is frozen, from
 * /proc/PID/mem, and written to the image later. The copy takes as much memory as those mappings
 * have populated.
 */
#include "mem/pages.h"

#include <sys/mman.h>

struct aside_run {
	struct page_run run; /* its vma is borrowed from the mm */
	uint64_t offset;
};

struct aside {
	struct page_source source;
	struct aside_run *run;
	size_t n, max;
	int fd;
	uint64_t size;
	/* while it is written */
	size_t next;
	uint64_t within;
};

static int copy_piece(struct aside *a, struct page_source *from, const struct page_run *run,
		      uint64_t done, uint8_t *buf, struct err *err)
{
	uint64_t len = MIN(run->len - done, CHUNK_MAX);
	int r = from->read(from, run->addr + done, buf, len, err);

	if (r < 0)
		return r;
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pwrite(a->fd, buf + at, len - at, (off_t)(a->size + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO, "cannot copy memory aside");
		at += (uint64_t)n;
	}
	a->size += len;
	return 0;
}

static int copy_run(struct aside *a, struct page_source *from, const struct page_run *run,
		    uint8_t *buf, struct err *err)
{
	int r = 0;

	if (grow(&a->run, &a->max, a->n, sizeof(*a->run)) < 0)
		return err_nomem(err);
	a->run[a->n++] = (struct aside_run){*run, a->size};
	for (uint64_t done = 0; done < run->len && r == 0; done += CHUNK_MAX)
		r = copy_piece(a, from, run, done, buf, err);
	return r;
}

static int copy_all(struct aside *a, struct page_source *from, struct err *err)
{
	_cleanup_free_ struct page_group *g = malloc(sizeof(*g));
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	int r = g && buf ? 0 : err_nomem(err);

	while (r == 0) {
		r = from->next(from, UINT64_MAX, g, err);
		if (r < 0 || !g->n)
			break;
		for (unsigned i = 0; i < g->n && r == 0; i++)
			r = copy_run(a, from, &g->run[i], buf, err);
	}
	return r;
}

static bool has_any(const Cpx__Mm *mm)
{
	for (size_t i = 0; i < mm->n_vma; i++)
		if (vma_is_aside(mm->vma[i]))
			return true;
	return false;
}

/* ---- as a source ---- */

static int aside_next(struct page_source *s, uint64_t max, struct page_group *ret, struct err *err)
{
	struct aside *a = (struct aside *)s;

	ret->n = 0;
	ret->bytes = 0;
	while (a->next < a->n && ret->n < GROUP_RUNS && ret->bytes < max) {
		const struct page_run *run = &a->run[a->next].run;
		uint64_t len = MIN(run->len - a->within, max - ret->bytes);

		ret->run[ret->n++] = (struct page_run){run->addr + a->within, len, run->vma};
		ret->bytes += len;
		a->within += len;
		if (a->within == run->len) {
			a->next++;
			a->within = 0;
		}
	}
	return 0;
}

static const struct aside_run *run_of(const struct aside *a, uint64_t addr)
{
	size_t lo = 0, hi = a->n; /* ascending, as the mappings are */

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (a->run[mid].run.addr + a->run[mid].run.len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < a->n && a->run[lo].run.addr <= addr ? &a->run[lo] : NULL;
}

static int aside_read(struct page_source *s, uint64_t addr, void *buf, size_t len, struct err *err)
{
	const struct aside *a = (const struct aside *)s;
	const struct aside_run *run = run_of(a, addr);
	size_t done = 0;

	while (run && done < len) {
		ssize_t n = pread(a->fd, (uint8_t *)buf + done, len - done,
				  (off_t)(run->offset + (addr - run->run.addr) + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO,
				       "cannot read memory copied aside");
		done += (size_t)n;
	}
	return run ? 0
		   : err_set(err, -EINVAL, "memory at %#lx was not copied aside",
			     (unsigned long)addr);
}

/* ---- the calls ---- */

int aside_take(struct page_source *from, struct aside **ret, struct err *err)
{
	struct aside *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return err_nomem(err);
	a->source = (struct page_source){aside_next, aside_read};
	a->fd = memfd_create("cpx-aside", MFD_CLOEXEC);
	r = a->fd < 0 ? err_sys(err, -errno, "cannot copy memory aside") : copy_all(a, from, err);
	if (r < 0) {
		aside_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

int aside_copy(const Cpx__Mm *mm, pid_t pid, struct aside **ret, struct err *err)
{
	struct page_plan plan;
	int r;

	*ret = NULL;
	if (!has_any(mm))
		return 0;
	r = page_plan_open(&plan, mm, true, pid, true, err);
	if (r < 0)
		return r;
	r = aside_take(&plan.source, ret, err);
	page_plan_close(&plan);
	return r;
}

int aside_write_all(struct aside *a, struct pageout *p, const Cpx__Mm *mm, bool has_children,
		    struct err *err)
{
	a->next = 0;
	a->within = 0;
	return page_copy_out(p, mm, has_children, &a->source, err);
}

int aside_write(struct aside *a, struct pageout *p, const Cpx__Mm *mm, struct err *err)
{
	return a ? aside_write_all(a, p, mm, false, err) : 0;
}

void aside_free(struct aside *a)
{
	if (!a)
		return;
	cleanup_close(&a->fd);
	free(a->run);
	free(a);
}
