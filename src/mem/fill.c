/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chunks into the memory of a task under construction: ioctl_userfaultfd(2) UFFDIO_COPY into fresh
 * anonymous mappings, which makes a page and fills it in one go; /proc/PID/mem for all else, which
 * works whatever the protection (FOLL_FORCE).
 */
#include "mem/pages.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

static int write_mem(const struct fill_target *t, uint64_t addr, const uint8_t *data, uint64_t len,
		     struct err *err)
{
	while (len) {
		ssize_t n = pwrite(t->mem_fd, data, len, (off_t)addr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO, "cannot fill its memory at %#lx",
				       (unsigned long)addr);
		data += n;
		addr += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/*
 * One call; returns the bytes that are dealt with or -errno. It stops at a page that exists already
 * (-EEXIST) or whose mapping is not registered after all (-ENOENT), which is then written instead,
 * and while the mm is changing (-EAGAIN: fork, mremap or unmap under way; tried again).
 */
static int64_t copy_some(const struct fill_target *t, uint64_t addr, const uint8_t *data,
			 uint64_t len, struct err *err)
{
	struct uffdio_copy c = {.dst = addr, .src = (uintptr_t)data, .len = len};

	if (ioctl(t->uffd, UFFDIO_COPY, &c) == 0)
		return (int64_t)len;
	if (c.copy > 0)
		return c.copy;
	if (errno == EEXIST || errno == ENOENT) {
		int r = write_mem(t, addr, data, CPX_PAGE_SIZE, err);

		return r < 0 ? r : (int64_t)CPX_PAGE_SIZE;
	}
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return err_sys(err, -errno, "cannot fill its memory at %#lx", (unsigned long)addr);
}

static int copy_fresh(const struct fill_target *t, uint64_t addr, const uint8_t *data, uint64_t len,
		      struct err *err)
{
	while (len) {
		int64_t n = copy_some(t, addr, data, len, err);

		if (n < 0)
			return (int)n;
		data += n;
		addr += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int write_zeros(const struct fill_target *t, uint64_t addr, uint64_t len, struct err *err)
{
	static const uint8_t zeros[16 * CPX_PAGE_SIZE];
	int r = 0;

	while (len && r == 0) {
		uint64_t n = MIN(len, sizeof(zeros));

		r = write_mem(t, addr, zeros, n, err);
		addr += n;
		len -= n;
	}
	return r;
}

/* A stretch that is fresh, or not, as a whole. Fresh memory is zero already. A write to a registered
 * page that is not there fails, so there is no second way. */
static int fill_run(const struct fill_target *t, uint64_t addr, uint64_t len, const uint8_t *data,
		    bool is_fresh, struct err *err)
{
	if (!data)
		return is_fresh ? 0 : write_zeros(t, addr, len, err);
	return is_fresh && t->uffd >= 0 ? copy_fresh(t, addr, data, len, err)
					: write_mem(t, addr, data, len, err);
}

int fill_range(const struct fill_target *t, uint64_t addr, uint64_t len, const void *data,
	       struct err *err)
{
	const uint8_t *at = data;
	int r = 0;

	while (len && r == 0) {
		const Cpx__Vma *v = vma_at(t->mm, addr);
		uint64_t n = v ? MIN(len, v->end - addr) : 0, end = addr + n;
		bool is_fresh;

		if (!v)
			return err_set(err, -EBADMSG, "pages at %#lx, where nothing is mapped",
				       (unsigned long)addr);
		is_fresh = t->is_fresh(addr, &end, t->arg);
		n = end - addr;
		r = fill_run(t, addr, n, at, is_fresh, err);
		at = at ? at + n : NULL;
		addr += n;
		len -= n;
	}
	return r;
}

int fill_chunk(const struct fill_target *t, const struct chunk_ref *c, const void *data,
	       struct err *err)
{
	const uint8_t *bytes = c->kind == CHUNK_ZERO ? NULL : data;
	int r = 0;

	if (c->kind == CHUNK_INHERIT)
		return err_set(err, -EINVAL, "inherited pages are not filled");
	for (unsigned i = 0; i < c->n && r == 0; i++) {
		const struct piece *p = &c->piece[i];

		r = fill_range(t, p->addr, p->len, bytes ? bytes + p->from : NULL, err);
	}
	return r;
}
