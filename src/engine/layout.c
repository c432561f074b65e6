/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mappings of a task under construction, made by the task itself in batches: what its parent
 * has and it has not goes, what both have alike stays (with its copy-on-write pages), the rest is
 * mapped anew; the vdso is moved last. mremap(2) with an old size of 0 duplicates a shared mapping.
 *
 * Cannot keep: which neighbouring anonymous mappings the kernel had merged.
 */
#include "engine/rtree.h"

#include "base/kabi.h"
#include "base/util.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#define TASK_END 0x7ffffffff000UL

typedef const Cpx__Vma *vma_t;

/* ---- vdso and vvar -------------------------------------------------------------------------- */

static bool is_special(const struct proc_vma *v)
{
	return strcmp(v->path, "[vdso]") == 0 || strncmp(v->path, "[vvar", 5) == 0;
}

int layout_note_specials(struct rtree *rt, const struct proc_vmas *own, struct err *err)
{
	rt->special = calloc(own->n + 1, sizeof(*rt->special));
	if (!rt->special)
		return err_nomem(err);
	for (size_t i = 0; i < own->n; i++) {
		const struct proc_vma *v = &own->vma[i];

		if (is_special(v))
			rt->special[rt->nspecials++] =
				(struct special){v->start, v->end - v->start, v->path[2] == 'd'};
	}
	return 0;
}

/* The parent's; the root has those of the coordinator, whose fork it is. */
static int inherit_specials(const struct rtree *rt, struct rtask *t, struct err *err)
{
	const struct rtask *p = t->parent ? t->parent->mm_owner : NULL;
	const struct special *s = p ? p->special : rt->special;

	t->nspecials = p ? p->nspecials : rt->nspecials;
	t->special = calloc(t->nspecials + 1, sizeof(*t->special));
	if (!t->special)
		return err_nomem(err);
	memcpy(t->special, s, t->nspecials * sizeof(*t->special));
	return 0;
}

static uint64_t special_target(const struct rtask *t, size_t i)
{
	const struct special *s = &t->special[i];

	if (s->is_vdso)
		return t->mm->vdso;
	return t->mm->vvar ? t->mm->vvar + (s->start - t->special[0].start) : 0;
}

static int move_special(struct remote *r, uint64_t from, uint64_t len, uint64_t to, struct err *err)
{
	return REMOTE_CALL(r, "move the vdso", err, SYS_mremap, from, len, len,
			   MREMAP_MAYMOVE | MREMAP_FIXED, to);
}

/* Out of the way into scratch; those without a target stay and are unmapped with the rest. */
static int park_specials(struct remote *r, struct rtask *t, struct err *err)
{
	uint64_t base = t->nspecials ? t->special[0].start : 0;
	int ret = 0;

	for (size_t i = 0; i < t->nspecials && ret == 0; i++)
		if (special_target(t, i))
			ret = move_special(r, t->special[i].start, t->special[i].len,
					   r->rt->scratch + (t->special[i].start - base), err);
	return ret;
}

static int place_specials(struct remote *r, struct rtask *t, struct err *err)
{
	uint64_t target[8], base = t->nspecials ? t->special[0].start : 0;
	size_t n = 0;
	int ret = 0;

	for (size_t i = 0; i < t->nspecials && i < ARRAY_SIZE(target); i++)
		target[i] = special_target(t, i);
	for (size_t i = 0; i < t->nspecials && ret == 0; i++) {
		struct special s = t->special[i];

		if (!target[i])
			continue;
		ret = move_special(r, r->rt->scratch + (s.start - base), s.len, target[i], err);
		t->special[n++] = (struct special){target[i], s.len, s.is_vdso};
	}
	t->nspecials = n;
	return ret;
}

static bool specials_stay(const struct rtask *t)
{
	for (size_t i = 0; i < t->nspecials; i++)
		if (special_target(t, i) != t->special[i].start)
			return false;
	return true;
}

/* ---- unmapping ------------------------------------------------------------------------------ */

static int unmap(struct remote *r, uint64_t start, uint64_t end, struct err *err)
{
	if (start >= end)
		return 0;
	return REMOTE_CALL(r, "unmap", err, SYS_munmap, start, end - start);
}

static int range_cmp(const void *a, const void *b)
{
	const struct page_range *x = a, *y = b;

	return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Everything but the hole, what is kept, and (if they stay) the special mappings. */
static int unmap_rest(struct remote *r, struct rtask *t, bool with_specials, struct err *err)
{
	size_t n = 0, max = t->kept.n + t->nspecials + 1;
	_cleanup_free_ struct page_range *stay = calloc(max, sizeof(*stay));
	uint64_t at = 0;
	int ret = 0;

	if (!stay)
		return err_nomem(err);
	for (size_t i = 0; i < t->kept.n; i++)
		stay[n++] = t->kept.r[i];
	for (size_t i = 0; i < t->nspecials && with_specials; i++)
		stay[n++] = (struct page_range){t->special[i].start, t->special[i].len};
	stay[n++] = (struct page_range){r->rt->hole, r->rt->hole_size};
	qsort(stay, n, sizeof(*stay), range_cmp);
	for (size_t i = 0; i < n && ret == 0; i++) {
		ret = unmap(r, at, stay[i].addr, err);
		at = stay[i].addr + stay[i].len;
	}
	return ret < 0 ? ret : unmap(r, at, TASK_END, err);
}

/* ---- mapping -------------------------------------------------------------------------------- */

static ssize_t object_index(struct rtree *rt, uint32_t id)
{
	for (size_t i = 0; i < rt->image->nobjects; i++)
		if (rt->image->object[i]->id == id)
			return i;
	return -1;
}

static int map_shm(struct remote *r, vma_t v, uint64_t start, uint64_t end, struct err *err)
{
	ssize_t i = object_index(r->rt, v->object);
	uint64_t from;
	int ret;

	if (i < 0 || !r->rt->ctx.object_map[i])
		return err_set(err, -EINVAL, "shared object %u is not staged", v->object);
	from = (uint64_t)r->rt->ctx.object_map[i] + v->offset + (start - v->start);
	ret = REMOTE_CALL(r, "map shared memory", err, SYS_mremap, from, 0, end - start,
			  MREMAP_MAYMOVE | MREMAP_FIXED, start);
	if (ret == 0 && v->prot != (PROT_READ | PROT_WRITE))
		ret = REMOTE_CALL(r, "protect shared memory", err, SYS_mprotect, start, end - start,
				  v->prot);
	return ret;
}

/* shmat(2) maps the whole segment; what of it is not in the image's mapping goes again. */
static int map_sysv(struct remote *r, vma_t v, uint64_t start, struct err *err)
{
	ssize_t i = object_index(r->rt, v->object);
	const Cpx__Object *o = i < 0 ? NULL : r->rt->image->object[i];
	int flags = SHM_REMAP | (v->prot & PROT_WRITE ? 0 : SHM_RDONLY) |
		    (v->prot & PROT_EXEC ? SHM_EXEC : 0);
	int ret;

	if (!o || !o->sysv || v->offset || start != v->start)
		return err_set(err, -ENOTSUP, "a partly unmapped System V segment at %#llx",
			       (unsigned long long)v->start);
	ret = REMOTE_CALL(r, "attach the System V segment", err, SYS_shmat,
			  objects_shmid(&r->rt->ctx, v->object),
			  v->start, flags);
	if (ret == 0 && v->start + ALIGN_UP(o->size, CPX_PAGE_SIZE) > v->end)
		ret = unmap(r, v->end, v->start + ALIGN_UP(o->size, CPX_PAGE_SIZE), err);
	return ret;
}

static int map_file(struct remote *r, vma_t v, uint64_t start, uint64_t end, int flags, struct err *err)
{
	int fd = files_fd(&r->rt->ctx, v->file);

	if (fd < 0)
		return err_set(err, -EINVAL, "file %u of a mapping is not open", v->file);
	return REMOTE_CALL(r, "map a file", err, SYS_mmap, start, end - start, v->prot,
			   flags | MAP_FIXED, fd, v->offset + (start - v->start));
}

static int map_anon(struct remote *r, vma_t v, uint64_t start, uint64_t end, int flags, struct err *err)
{
	flags |= (v->vm_flags & VMA_DROPPABLE ? MAP_DROPPABLE : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED;
	if (v->grows_down)
		flags |= MAP_GROWSDOWN | MAP_STACK;
	return REMOTE_CALL(r, "map memory", err, SYS_mmap, start, end - start, v->prot, flags, -1, 0);
}

static int map_piece(struct remote *r, vma_t v, uint64_t start, uint64_t end, struct err *err)
{
	int reserve = v->vm_flags & VMA_NORESERVE ? MAP_NORESERVE : 0;
	ssize_t i;

	switch (v->kind) {
	case CPX__VMA__KIND__FILE_PRIVATE:
		return map_file(r, v, start, end, MAP_PRIVATE | reserve, err);
	case CPX__VMA__KIND__FILE_SHARED:
		return map_file(r, v, start, end, MAP_SHARED | reserve, err);
	case CPX__VMA__KIND__URING:
	case CPX__VMA__KIND__AIO: /* later, by rings_make() */
		return 0;
	case CPX__VMA__KIND__SHM_ANON:
		return map_shm(r, v, start, end, err);
	case CPX__VMA__KIND__SYSV:
		return map_sysv(r, v, start, err);
	case CPX__VMA__KIND__HUGETLB:
		return map_anon(r, v, start, end,
				MAP_HUGETLB | v->hugepage_shift << MAP_HUGE_SHIFT | reserve, err);
	case CPX__VMA__KIND__HUGETLB_SHARED:
		i = object_index(r->rt, v->object);
		return REMOTE_CALL(r, "map shared huge pages", err, SYS_mmap, start, end - start,
				   v->prot, MAP_SHARED | MAP_FIXED | reserve,
				   i < 0 ? -1 : r->rt->ctx.object_fd[i],
				   v->offset + (start - v->start));
	default:
		return map_anon(r, v, start, end, reserve, err);
	}
}

/* One mapping: the parts between what is kept. */
static int map_vma(struct remote *r, struct rtask *t, vma_t v, struct err *err)
{
	uint64_t at = v->start;
	int ret = 0;

	while (at < v->end && ret == 0) {
		const struct page_range *k = page_range_at(&t->kept, at);
		uint64_t end = k ? MIN(k->addr, v->end) : v->end;

		if (k && k->addr <= at) {
			at = MIN(k->addr + k->len, v->end);
			continue;
		}
		ret = map_piece(r, v, at, end, err);
		at = end;
	}
	return ret;
}

static int map_all(struct remote *r, struct rtask *t, struct err *err)
{
	int ret = 0;

	/* Whole segments first: they may cover more than their mapping. */
	for (size_t i = 0; i < t->mm->n_vma && ret == 0; i++)
		if (t->mm->vma[i]->kind == CPX__VMA__KIND__SYSV)
			ret = map_vma(r, t, t->mm->vma[i], err);
	for (size_t i = 0; i < t->mm->n_vma && ret == 0; i++)
		if (t->mm->vma[i]->kind != CPX__VMA__KIND__SYSV)
			ret = map_vma(r, t, t->mm->vma[i], err);
	return ret;
}

static int protect_kept(struct remote *r, struct rtask *t, const Cpx__Mm *old, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < t->kept.n && ret == 0; i++) {
		const struct page_range *k = &t->kept.r[i];
		vma_t a = vma_at(old, k->addr), b = vma_at(t->mm, k->addr);

		if (a->prot != b->prot)
			ret = REMOTE_CALL(r, "protect memory", err, SYS_mprotect, k->addr, k->len, b->prot);
	}
	return ret;
}

/* The C library registered an rseq area for us, and the root inherited it; the kernel must not write to
 * it once it is unmapped. Its length is not to be had, so all that it can be are tried. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));

static int drop_own_rseq(struct remote *r, struct err *err)
{
	static const uint32_t length[] = {32, 64, 96, 128};
	uint64_t area;
	int ret = 0;

	if (!&__rseq_offset)
		return 0;
	area = (uint64_t)__builtin_thread_pointer() + __rseq_offset;
	for (size_t i = 0; i < ARRAY_SIZE(length) && ret == 0; i++)
		ret = REMOTE_CALL(r, NULL, err, SYS_rseq, area, length[i], 1 /* unregister */, 0x53053053);
	return ret;
}

static int prepare(const struct rtree *rt, struct rtask *t, const Cpx__Mm *old, struct err *err)
{
	int r = keep_mappings(rt, t, old, err);

	return r < 0 ? r : inherit_specials(rt, t, err);
}

static int apply(struct remote *r, struct rtask *t, struct err *err)
{
	const Cpx__Mm *old = t->parent ? t->parent->mm : NULL;
	int ret = prepare(r->rt, t, old, err);
	bool stay = specials_stay(t);

	if (ret == 0 && !t->parent)
		ret = drop_own_rseq(r, err);
	if (ret == 0 && !stay)
		ret = park_specials(r, t, err);
	if (ret == 0)
		ret = unmap_rest(r, t, stay, err);
	if (ret == 0)
		ret = map_all(r, t, err);
	if (ret == 0 && !stay)
		ret = place_specials(r, t, err);
	if (ret == 0 && old)
		ret = protect_kept(r, t, old, err);
	return ret;
}

int layout_apply(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	return remote_each(rt, task, n, apply, NULL, err);
}

/* ---- finishing ------------------------------------------------------------------------------ */

static const struct {
	uint64_t flag;
	int advice;
} advices[] = {
	{VMA_DONTFORK, MADV_DONTFORK},	   {VMA_WIPEONFORK, MADV_WIPEONFORK},
	{VMA_DONTDUMP, MADV_DONTDUMP},	   {VMA_HUGEPAGE, MADV_HUGEPAGE},
	{VMA_NOHUGEPAGE, MADV_NOHUGEPAGE}, {VMA_MERGEABLE, MADV_MERGEABLE},
	{VMA_SEQUENTIAL, MADV_SEQUENTIAL}, {VMA_RANDOM, MADV_RANDOM},
};

/* The kernel's limit is 80 bytes (mm/madvise.c, ANON_VMA_NAME_MAX_LEN); without CONFIG_ANON_VMA_NAME
 * names do not exist, so the result does not matter. */
static int name_mapping(struct remote *r, vma_t v, struct err *err)
{
	char name[81] = "";

	memcpy(name, v->name.data, MIN(v->name.len, sizeof(name) - 1));
	return REMOTE_CALL(r, NULL, err, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, v->start,
			   v->end - v->start, batch_in_str(&r->b, name));
}

static bool is_ring(vma_t v)
{
	return v->kind == CPX__VMA__KIND__URING || v->kind == CPX__VMA__KIND__AIO;
}

static int advise(struct remote *r, vma_t v, struct err *err)
{
	uint64_t len = v->end - v->start;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(advices) && ret == 0; i++)
		if (v->vm_flags & advices[i].flag)
			ret = REMOTE_CALL(r, "advise on memory", err, SYS_madvise, v->start, len,
					  advices[i].advice);
	if (ret == 0 && v->vm_flags & (VMA_LOCKED | VMA_LOCKONFAULT))
		ret = REMOTE_CALL(r, "lock memory", err, SYS_mlock2, v->start, len,
				  v->vm_flags & VMA_LOCKONFAULT ? MLOCK_ONFAULT : 0);
	return ret == 0 && v->name.len ? name_mapping(r, v, err) : ret;
}

/* Before memory is locked, which some kernels do not guard. */
static int install_guards(struct remote *r, const Cpx__Mm *mm, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; i < mm->n_guard && ret == 0; i++)
		ret = REMOTE_CALL(r, "install guard pages (Linux 6.13 and later can)", err, SYS_madvise,
				  mm->guard[i]->start, mm->guard[i]->end - mm->guard[i]->start,
				  MADV_GUARD_INSTALL);
	return ret;
}

static void fill_mm_map(const Cpx__Mm *mm, uint64_t auxv, int exe_fd, struct prctl_mm_map *m)
{
	*m = (struct prctl_mm_map){
		.start_code = mm->start_code, .end_code = mm->end_code,
		.start_data = mm->start_data, .end_data = mm->end_data,
		.start_brk = mm->start_brk, .brk = mm->brk, .start_stack = mm->start_stack,
		.arg_start = mm->arg_start, .arg_end = mm->arg_end,
		.env_start = mm->env_start, .env_end = mm->env_end,
		.auxv = (__u64 *)auxv, .auxv_size = mm->auxv.len, .exe_fd = exe_fd,
	};
}

static int set_mm(struct remote *r, struct rtask *t, struct err *err)
{
	struct prctl_mm_map m;
	int exe_fd = files_fd(&r->rt->ctx, t->mm->exe_file);
	uint64_t auxv = batch_in(&r->b, t->mm->auxv.data, t->mm->auxv.len);

	fill_mm_map(t->mm, t->mm->auxv.len ? auxv : 0, exe_fd, &m);
	return REMOTE_CALL(r, "set the memory descriptor (PR_SET_MM_MAP)", err, SYS_prctl, PR_SET_MM,
			   PR_SET_MM_MAP, batch_in(&r->b, &m, sizeof(m)), sizeof(m), 0);
}

static int finish(struct remote *r, struct rtask *t, struct err *err)
{
	int ret = set_mm(r, t, err);

	if (ret == 0)
		ret = install_guards(r, t->mm, err);
	for (size_t i = 0; i < t->mm->n_vma && ret == 0; i++)
		if (!is_ring(t->mm->vma[i]))
			ret = advise(r, t->mm->vma[i], err);
	return ret;
}

int layout_finish(struct rtree *rt, struct rtask *const *task, size_t n, struct err *err)
{
	return remote_each(rt, task, n, finish, NULL, err);
}
