/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Places in a task: where a signal frame may be written, and a hole for the mailbox.
 *
 * What lies below the red zone of a stack is dead. But the stack pointer may as well be in a
 * coroutine's stack of 2 KiB amid the heap (Go), and writing below that would corrupt the heap. A
 * stack is taken for one when it is the main stack, or a thread's: in one mapping with its thread
 * control block, above a guard. Else the frame goes to pages of the main stack that were never
 * used.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#define RED_ZONE       128
#define ADDR_END       0x7ffffffff000ULL
#define ADDR_START     0x10000ULL
#define SLOT_PAGES_MAX 16 /* the unused pages at the bottom of the main stack that are taken */

static bool is_main_stack(const struct proc_vma *v)
{
	return !strcmp(v->path, "[stack]");
}

static bool is_private_data(const struct proc_vma *v)
{
	return !v->is_shared && (v->prot & PROT_WRITE) && (v->prot & PROT_READ);
}

static bool has_guard_below(const struct proc_vmas *maps, const struct proc_vma *v)
{
	const struct proc_vma *below = v - 1;

	return v != maps->vma && below->end == v->start && !below->prot;
}

static bool is_thread_stack(const struct proc_vmas *maps, const struct proc_vma *v, uint64_t sp,
			    uint64_t tls)
{
	return has_guard_below(maps, v) && tls > sp && tls < v->end;
}

/* Counts the pages from the bottom of the main stack that are neither present nor swapped. */
static int count_unused(struct tracee *t, const struct proc_vma *v, size_t *ret)
{
	uint64_t entry[SLOT_PAGES_MAX];
	char path[64];
	_cleanup_close_ int fd = -1;
	size_t n = MIN((v->end - v->start) / CPX_PAGE_SIZE, (uint64_t)SLOT_PAGES_MAX), i;
	off_t at = (off_t)(v->start / CPX_PAGE_SIZE * sizeof(entry[0]));

	snprintf(path, sizeof(path), "/proc/%d/task/%d/pagemap", t->pid, tracee_live_tid(t));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, entry, n * sizeof(entry[0]), at) != (ssize_t)(n * sizeof(entry[0])))
		return -errno;
	for (i = 0; i < n && !(entry[i] >> 62); i++)
		;
	*ret = i;
	return 0;
}

static void find_slot(struct tracee *t)
{
	struct inject *in = t->mm_owner->inject;

	if (in->slot)
		return;
	in->slot = 1;
	for (size_t i = 0; i < in->maps.n; i++) {
		const struct proc_vma *v = &in->maps.vma[i];

		if (is_main_stack(v) && is_private_data(v) &&
		    count_unused(t, v, &in->nslot_pages) == 0)
			in->slot = v->start;
	}
}

/* The host's frame takes the lower half of the unused pages, all others in turn the upper one. */
static bool use_slot(struct tracee *t, size_t need, bool is_host, struct site *ret)
{
	struct inject *in = t->mm_owner->inject;
	uint64_t half;

	find_slot(t);
	half = in->nslot_pages / 2 * CPX_PAGE_SIZE;
	if (half < need)
		return false;
	*ret = (struct site){
		.top = in->slot + (is_host ? half : 2 * half),
		.room = half,
		.is_shared = true,
	};
	return true;
}

/*
 * A stack has been grown just as far as it was used. Access from outside grows it as its owner's
 * would (mm/memory.c, __access_remote_vm), within RLIMIT_STACK.
 */
static void grow_main_stack(struct tracee *t, uint64_t top, size_t need)
{
	struct proc_vma *v = (struct proc_vma *)proc_vmas_find(&t->mm_owner->inject->maps, top);
	uint64_t start = ALIGN_DOWN(top - need, CPX_PAGE_SIZE);
	char byte;

	if (v && is_main_stack(v) && start < v->start &&
	    pread(t->mm_owner->inject->mem_fd, &byte, 1, (off_t)start) == 1)
		v->start = start;
}

int site_find(struct tracee *t, const struct tracee_thread *th, size_t need, bool is_host,
	      struct site *ret, struct err *err)
{
	const struct proc_vmas *maps = &t->mm_owner->inject->maps;
	uint64_t sp = arch_stack_pointer(&th->regs), top = ALIGN_DOWN(sp - RED_ZONE, 64UL);
	const struct proc_vma *v;
	bool fits;

	grow_main_stack(t, sp - 1, need + RED_ZONE + CPX_PAGE_SIZE);
	v = proc_vmas_find(maps, sp - 1);
	fits = v && is_private_data(v) && top > v->start && top - v->start >= need;

	if (fits &&
	    (is_main_stack(v) || is_thread_stack(maps, v, sp, arch_thread_pointer(&th->regs)))) {
		*ret = (struct site){.top = top, .room = top - v->start};
		return 0;
	}
	if (use_slot(t, need, is_host, ret))
		return 0;
	if (!fits)
		return err_set(
			err, -ENOSPC,
			"thread %d: no room for a signal frame below its stack pointer %#" PRIx64,
			th->tid, sp);
	*ret = (struct site){.top = top, .room = top - v->start, .must_save = true};
	return 0;
}

int site_hole(const struct proc_vmas *maps, uint64_t size, uint64_t *ret, struct err *err)
{
	uint64_t at = ADDR_START, best = 0, best_size = 0;

	for (size_t i = 0; i <= maps->n; i++) {
		uint64_t end = i < maps->n ? MIN(maps->vma[i].start, ADDR_END) : ADDR_END;

		if (end > at && end - at > best_size) {
			best = at;
			best_size = end - at;
		}
		if (i < maps->n)
			at = MAX(at, maps->vma[i].end);
	}
	if (best_size < 3 * size)
		return err_set(err, -ENOMEM, "no room in its address space");
	/* The middle: the kernel allocates at the upper ends of gaps, the heap grows from the
	 * lower. */
	*ret = ALIGN_DOWN(best + (best_size - size) / 2, CPX_PAGE_SIZE);
	return 0;
}
