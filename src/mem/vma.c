/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a mapping is, from its lines in /proc/PID/smaps alone. Reads nothing itself. Anonymous
 * shared mappings are files of the kernel's internal tmpfs and are known by their names there
 * (mm/shmem.c, ipc/shm.c, fs/hugetlbfs/inode.c); which object is behind them is for src/res to find
 * out.
 */
#include "mem/mem.h"

#include "base/util.h"
#include "proc/proc.h"

static bool is_named(const struct proc_vma *v, const char *prefix)
{
	return !strncmp(v->path, prefix, strlen(prefix));
}

bool vma_is_special(const struct proc_vma *v)
{
	return !v->ino && (is_named(v, "[vdso]") || is_named(v, "[vvar") ||
			   is_named(v, "[vsyscall]") || is_named(v, "[uprobes]"));
}

static const struct {
	uint64_t proc, image;
} flag_map[] = {
	{PVM_LOCKED, VMA_LOCKED},	  {PVM_LOCKONFAULT, VMA_LOCKONFAULT},
	{PVM_DONTFORK, VMA_DONTFORK},	  {PVM_WIPEONFORK, VMA_WIPEONFORK},
	{PVM_DONTDUMP, VMA_DONTDUMP},	  {PVM_HUGEPAGE, VMA_HUGEPAGE},
	{PVM_NOHUGEPAGE, VMA_NOHUGEPAGE}, {PVM_MERGEABLE, VMA_MERGEABLE},
	{PVM_SEQUENTIAL, VMA_SEQUENTIAL}, {PVM_RANDOM, VMA_RANDOM},
	{PVM_NORESERVE, VMA_NORESERVE},	  {PVM_DROPPABLE, VMA_DROPPABLE},
};

static uint32_t flags_of(const struct proc_vma *v)
{
	uint32_t flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(flag_map); i++)
		if (v->vm_flags & flag_map[i].proc)
			flags |= flag_map[i].image;
	return flags;
}

static bool is_anon_hugetlb(const struct proc_vma *v)
{
	return v->vm_flags & PVM_HUGETLB && v->is_deleted && is_named(v, "/anon_hugepage");
}

static bool is_sysv(const struct proc_vma *v)
{
	return v->is_deleted && is_named(v, "/SYSV");
}

/* shmem_zero_setup() calls its files "dev/zero"; a name given with PR_SET_VMA_ANON_NAME replaces
 * that. */
static bool is_shared_anon(const struct proc_vma *v)
{
	return (v->is_deleted && !strcmp(v->path, "/dev/zero")) || is_named(v, "[anon_shmem:");
}

static Cpx__Vma__Kind kind_of_shared(const struct proc_vma *v)
{
	if (is_sysv(v)) /* hugetlb segments too */
		return CPX__VMA__KIND__SYSV;
	if (is_anon_hugetlb(v))
		return CPX__VMA__KIND__HUGETLB_SHARED;
	if (is_shared_anon(v))
		return CPX__VMA__KIND__SHM_ANON;
	return CPX__VMA__KIND__FILE_SHARED;
}

static Cpx__Vma__Kind kind_of_private(const struct proc_vma *v)
{
	if (is_anon_hugetlb(v))
		return CPX__VMA__KIND__HUGETLB;
	if (!v->ino || (!v->is_deleted && !strcmp(v->path, "/dev/zero")))
		return CPX__VMA__KIND__ANON;
	return CPX__VMA__KIND__FILE_PRIVATE;
}

/* "[anon:NAME]" and "[anon_shmem:NAME]". */
static int take_name(const struct proc_vma *v, Cpx__Vma *vma)
{
	const char *colon = strchr(v->path, ':');
	size_t len;

	if (!colon || (!is_named(v, "[anon:") && !is_named(v, "[anon_shmem:")))
		return 0;
	len = strlen(colon + 1);
	if (len < 2)
		return 0;
	vma->name.data = malloc(len - 1);
	if (!vma->name.data)
		return -ENOMEM;
	memcpy(vma->name.data, colon + 1, len - 1);
	vma->name.len = len - 1;
	return 0;
}

int vma_from_proc(const struct proc_vma *v, Cpx__Vma *vma, struct err *err)
{
	vma->start = v->start;
	vma->end = v->end;
	vma->prot = (uint32_t)v->prot;
	vma->grows_down = v->vm_flags & PVM_GROWSDOWN;
	vma->vm_flags = flags_of(v);
	vma->kind = v->is_shared ? kind_of_shared(v) : kind_of_private(v);
	vma->offset = vma->kind == CPX__VMA__KIND__ANON ? 0 : v->offset;
	if (v->vm_flags & PVM_HUGETLB)
		vma->hugepage_shift = (uint32_t)__builtin_ctzll(v->kernel_page_size);
	return take_name(v, vma) < 0 ? err_nomem(err) : 0;
}

const char *vma_obstacle(const struct proc_vma *v)
{
	static const struct {
		uint64_t flag;
		const char *why;
	} obstacles[] = {
		{PVM_IO | PVM_PFNMAP | PVM_MIXEDMAP, "is a device's memory"},
		{PVM_UFFD_MISSING | PVM_UFFD_WP | PVM_UFFD_MINOR, "is watched by a userfaultfd, as memory is until a restore --lazy is through (then: try again later)"},
		{PVM_PKEY, "has a memory protection key"},
		{PVM_SHADOW_STACK, "is a shadow stack"},
		{PVM_SEALED, "is sealed (mseal)"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(obstacles); i++)
		if (v->vm_flags & obstacles[i].flag)
			return obstacles[i].why;
	return NULL;
}
