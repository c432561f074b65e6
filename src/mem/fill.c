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

/* An extent may reach over several mappings, each of which is filled in its own way. */
static int fill_extent(const struct fill_target *t, struct extent e, const uint8_t *data,
		       bool (*is_fresh)(uint64_t addr, void *arg), void *arg, struct err *err)
{
	while (e.len) {
		const Cpx__Vma *v = vma_at(t->mm, e.addr);
		uint64_t len = v ? MIN(e.len, v->end - e.addr) : 0;
		int r;

		if (!v)
			return err_set(err, -EBADMSG, "pages at %#lx, where nothing is mapped",
				       (unsigned long)e.addr);
		if (t->uffd >= 0 && is_fresh(e.addr, arg))
			r = copy_fresh(t, e.addr, data, len, err);
		else
			r = write_mem(t, e.addr, data, len, err);
		if (r < 0)
			return r;
		e.addr += len;
		e.len -= len;
		data += len;
	}
	return 0;
}

static int fill_zero(const struct fill_target *t, struct extent e, struct err *err)
{
	static const uint8_t zeros[16 * CPX_PAGE_SIZE];
	int r = 0;

	while (e.len && r == 0) {
		uint64_t len = MIN(e.len, sizeof(zeros));

		r = write_mem(t, e.addr, zeros, len, err);
		e.addr += len;
		e.len -= len;
	}
	return r;
}

int fill_chunk(const struct fill_target *t, const struct chunk_ref *c, const void *data,
	       bool (*is_fresh)(uint64_t addr, void *arg), void *arg, struct err *err)
{
	const uint8_t *at = data;
	int r = 0;

	if (c->kind == CHUNK_INHERIT)
		return err_set(err, -EINVAL, "inherited pages are not filled");
	for (unsigned i = 0; i < c->n && r == 0; i++) {
		if (c->kind == CHUNK_ZERO) {
			r = fill_zero(t, c->ext[i], err);
			continue;
		}
		r = fill_extent(t, c->ext[i], at, is_fresh, arg, err);
		at += c->ext[i].len;
	}
	return r;
}
