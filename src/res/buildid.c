/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Build ids of programs and libraries, out of the ELF headers and notes: of a file that is open, or of one
 * that is mapped, by process_vm_readv(2), from pages that are not copies (bit 61 of /proc/PID/pagemap). The
 * second needs no open(2), of which the holder of a lease would be told.
 */
#include "res/buildid.h"

#include "base/util.h"
#include "proc/proc.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/uio.h>

#define NOTES_MAX 65536
#define PHDRS_MAX 128

/* Where bytes of the file come from. Like pread(2). */
struct elf_source {
	ssize_t (*read)(struct elf_source *s, void *buf, size_t len, uint64_t offset);
	int fd;
	struct mapped_views *views;
	const struct mapped_view *view;
	uint32_t file;
};

/* Notes are of two words of length, a type, a name and a description, each padded to four bytes. */
static void find_build_id(const uint8_t *notes, size_t len, struct build_id *ret)
{
	Elf64_Nhdr h;

	for (size_t at = 0; at + sizeof(h) <= len;) {
		size_t name, desc, end;

		memcpy(&h, notes + at, sizeof(h));
		name = at + sizeof(h);
		desc = name + ALIGN_UP((size_t)h.n_namesz, 4);
		end = desc + ALIGN_UP((size_t)h.n_descsz, 4);
		if (desc + h.n_descsz > len || desc < name)
			return;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 &&
		    memcmp(notes + name, "GNU", 4) == 0 && h.n_descsz <= BUILD_ID_MAX) {
			memcpy(ret->byte, notes + desc, h.n_descsz);
			ret->len = h.n_descsz;
			return;
		}
		at = end;
	}
}

static int read_notes(struct elf_source *s, const Elf64_Phdr *p, struct build_id *ret)
{
	size_t len = MIN(p->p_filesz, (Elf64_Xword)NOTES_MAX);
	_cleanup_free_ uint8_t *notes = malloc(len + 1);
	ssize_t n;

	if (!notes)
		return -ENOMEM;
	n = s->read(s, notes, len, p->p_offset);
	if (n > 0)
		find_build_id(notes, n, ret);
	return n == -EAGAIN ? -EAGAIN : 0;
}

/* 0, -ENOMEM, or -EAGAIN: not to be had from this source. */
static int read_build_id(struct elf_source *s, struct build_id *ret)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	ssize_t n = s->read(s, &eh, sizeof(eh), 0);
	int r = 0;

	ret->len = 0;
	if (n == -EAGAIN)
		return -EAGAIN;
	if (n != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_phentsize != sizeof(ph[0]))
		return 0;
	n = s->read(s, ph, MIN(eh.e_phnum, PHDRS_MAX) * sizeof(ph[0]), eh.e_phoff);
	for (size_t i = 0; r == 0 && n > 0 && i < n / sizeof(ph[0]) && !ret->len; i++)
		if (ph[i].p_type == PT_NOTE)
			r = read_notes(s, &ph[i], ret);
	return n == -EAGAIN ? -EAGAIN : r;
}

/* ---- of a file ---- */

static ssize_t read_file(struct elf_source *s, void *buf, size_t len, uint64_t offset)
{
	ssize_t n = pread(s->fd, buf, len, (off_t)offset);

	return n < 0 ? -EIO : n;
}

int build_id_of_file(int fd, struct build_id *ret)
{
	struct elf_source s = {.read = read_file, .fd = fd};

	return read_build_id(&s, ret);
}

/* ---- of a mapping ---- */

static const Cpx__Vma *find_mapping(const Cpx__Mm *mm, uint32_t file, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < mm->n_vma; i++) {
		const Cpx__Vma *v = mm->vma[i];

		if (v->kind == CPX__VMA__KIND__FILE_PRIVATE && v->file == file && v->offset <= from &&
		    to - v->offset <= v->end - v->start)
			return v;
	}
	return NULL;
}

static bool open_pagemap(struct mapped_views *views, pid_t pid)
{
	_cleanup_close_ int dir = -1;

	if (views->pagemap_fd >= 0 && views->pid == pid)
		return true;
	cleanup_close(&views->pagemap_fd);
	views->pagemap_fd = -1;
	views->pid = pid;
	return proc_open(-1, pid, 0, &dir, NULL) == 0 &&
	       proc_open_file(dir, "pagemap", O_RDONLY, &views->pagemap_fd, NULL) == 0;
}

/* When they were read a moment ago, and so are present. */
static bool are_of_file(struct mapped_views *views, pid_t pid, uint64_t addr, size_t len)
{
	const uint64_t present = 1ULL << 63, file = 1ULL << 61;
	uint64_t first = addr / CPX_PAGE_SIZE, last = (addr + len - 1) / CPX_PAGE_SIZE;
	uint64_t entry[NOTES_MAX / CPX_PAGE_SIZE + 1];
	size_t size = (last - first + 1) * sizeof(entry[0]);

	if (size > sizeof(entry) || !open_pagemap(views, pid) ||
	    pread(views->pagemap_fd, entry, size, (off_t)(first * sizeof(entry[0]))) != (ssize_t)size)
		return false;
	for (size_t i = 0; i < size / sizeof(entry[0]); i++)
		if (!(entry[i] & present) || !(entry[i] & file))
			return false;
	return true;
}

static ssize_t read_mapping(struct elf_source *s, void *buf, size_t len, uint64_t offset)
{
	const Cpx__Vma *v = offset + len < offset || !len ? NULL :
		find_mapping(s->view->mm, s->file, offset, offset + len);
	uint64_t addr = v ? v->start + (offset - v->offset) : 0;
	struct iovec local = {buf, len}, remote = {(void *)addr, len};

	if (!v || process_vm_readv(s->view->pid, &local, 1, &remote, 1, 0) != (ssize_t)len ||
	    !are_of_file(s->views, s->view->pid, addr, len))
		return -EAGAIN;
	return (ssize_t)len;
}

bool build_id_of_mapping(struct mapped_views *views, uint32_t file, struct build_id *ret)
{
	struct elf_source s = {.read = read_mapping, .views = views, .file = file};

	for (size_t i = 0; i < views->n; i++) {
		s.view = &views->view[i];
		if (find_mapping(s.view->mm, file, 0, sizeof(Elf64_Ehdr)))
			return read_build_id(&s, ret) == 0;
	}
	return false;
}
