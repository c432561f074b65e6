/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages of given ranges as a source, and how sources read bytes of a task: from /proc/PID/mem, whatever the protection
 * (FOLL_FORCE, mm/memory.c), and without unsharing copy-on-write pages.
 */
#include "mem/pages.h"

int page_mem_read(int mem_fd, uint64_t addr, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		ssize_t n = pread(mem_fd, to, len, (off_t)addr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		addr += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int page_mem_failed(int ret, uint64_t addr, struct err *err)
{
	return err_sys(err, ret, "cannot read its memory at %#lx", (unsigned long)addr);
}

static struct page_run run_at(const struct range_source *s, uint64_t max)
{
	const struct page_range *r = &s->ranges->r[s->next];
	struct page_run run = {r->addr + s->within, MIN(r->len - s->within, max), NULL};

	if (s->mm) {
		run.vma = vma_at(s->mm, run.addr);
		run.len = MIN(run.len, run.vma->end - run.addr);
	}
	return run;
}

static int ranges_next(struct page_source *source, uint64_t max, struct page_group *g,
		       struct err *err)
{
	struct range_source *s = (struct range_source *)source;

	g->n = 0;
	g->bytes = 0;
	while (s->next < s->ranges->n && g->n < GROUP_RUNS && g->bytes < max) {
		struct page_run run = run_at(s, max - g->bytes);

		g->run[g->n++] = run;
		g->bytes += run.len;
		s->within += run.len;
		if (s->within == s->ranges->r[s->next].len) {
			s->next++;
			s->within = 0;
		}
	}
	return 0;
}

static int read_singly(struct range_source *s, uint64_t addr, uint8_t *buf, size_t len,
		       struct err *err)
{
	for (size_t at = 0; at < len; at += CPX_PAGE_SIZE) {
		if (page_mem_read(s->mem_fd, addr + at, buf + at, CPX_PAGE_SIZE) == 0)
			continue;
		memset(buf + at, 0, CPX_PAGE_SIZE);
		if (page_ranges_add(s->lost, addr + at, addr + at + CPX_PAGE_SIZE) < 0)
			return err_nomem(err);
	}
	return 0;
}

static int ranges_read(struct page_source *source, uint64_t addr, void *buf, size_t len,
		       struct err *err)
{
	struct range_source *s = (struct range_source *)source;
	int r = page_mem_read(s->mem_fd, addr, buf, len);

	if (r == 0)
		return 0;
	return s->lost ? read_singly(s, addr, buf, len, err) : page_mem_failed(r, addr, err);
}

struct range_source range_source(const struct page_ranges *ranges, int mem_fd)
{
	return (struct range_source){
		.source = {ranges_next, ranges_read},
		.ranges = ranges,
		.mem_fd = mem_fd,
	};
}
