/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /proc/PID/maps and smaps (proc(5), fs/proc/task_mmu.c). The path column escapes a newline as \012
 * and nothing else, not even the backslash, and " (deleted)" at its end may be a part of a real
 * name: proc_vma_resolve() settles both.
 */
#include "proc/internal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const struct {
	char name[3];
	uint32_t flag;
} vm_flag_names[] = {
	{"rd", PVM_READ},	   {"wr", PVM_WRITE},	   {"ex", PVM_EXEC},
	{"sh", PVM_SHARED},	   {"gd", PVM_GROWSDOWN},  {"pf", PVM_PFNMAP},
	{"lo", PVM_LOCKED},	   {"lf", PVM_LOCKONFAULT}, {"io", PVM_IO},
	{"sr", PVM_SEQUENTIAL},	   {"rr", PVM_RANDOM},	   {"dc", PVM_DONTFORK},
	{"de", PVM_DONTEXPAND},	   {"ac", PVM_ACCOUNT},	   {"nr", PVM_NORESERVE},
	{"ht", PVM_HUGETLB},	   {"sf", PVM_SYNC},	   {"wf", PVM_WIPEONFORK},
	{"dd", PVM_DONTDUMP},	   {"mm", PVM_MIXEDMAP},   {"hg", PVM_HUGEPAGE},
	{"nh", PVM_NOHUGEPAGE},	   {"mg", PVM_MERGEABLE},  {"um", PVM_UFFD_MISSING},
	{"uw", PVM_UFFD_WP},	   {"ui", PVM_UFFD_MINOR}, {"ss", PVM_SHADOW_STACK},
	{"sl", PVM_SEALED},	   {"dp", PVM_DROPPABLE},  {"mw", PVM_MAYWRITE},
	/* May-flags and what follows from the rest of the line. */
	{"mr", 0}, {"me", 0}, {"ms", 0}, {"sd", 0}, {"nl", 0},
};

static uint64_t vm_flag(struct word w)
{
	for (size_t i = 0; i < ARRAY_SIZE(vm_flag_names); i++)
		if (word_is(w, vm_flag_names[i].name))
			return vm_flag_names[i].flag;
	return PVM_OTHER;
}

static bool take_vm_flags(struct scan *s, struct proc_vma *v)
{
	bool is_nameless = false; /* a flag that this kernel has no letters for */
	struct word w;

	v->has_flags = true;
	for (scan_blanks(s); scan_word(s, &w); scan_blanks(s)) {
		v->vm_flags |= vm_flag(w);
		is_nameless |= word_is(w, "??");
	}
	/* Kernels older than the letters "lf" show VM_LOCKONFAULT so. */
	if (is_nameless && v->vm_flags & PVM_LOCKED)
		v->vm_flags |= PVM_LOCKONFAULT;
	return true;
}

static bool take_pkey(struct scan *s, struct proc_vma *v)
{
	scan_blanks(s);
	if (!scan_u32(s, 10, &v->pkey))
		return false;
	v->vm_flags |= v->pkey ? PVM_PKEY : 0;
	return true;
}

static const struct {
	const char *key;
	size_t offset;
} sizes[] = {
	{"Rss:", offsetof(struct proc_vma, rss)},
	{"Anonymous:", offsetof(struct proc_vma, anonymous)},
	{"Swap:", offsetof(struct proc_vma, swap)},
	{"Locked:", offsetof(struct proc_vma, locked)},
	{"Private_Dirty:", offsetof(struct proc_vma, private_dirty)},
	{"KernelPageSize:", offsetof(struct proc_vma, kernel_page_size)},
};

static bool take_size(struct scan *s, uint64_t *ret)
{
	uint64_t kb;

	scan_blanks(s);
	if (!scan_u64(s, 10, &kb) || kb > UINT64_MAX >> 10)
		return false;
	*ret = kb << 10;
	return true;
}

/* A line of smaps below its mapping's own line. */
static bool take_detail(struct scan s, struct proc_vma *v)
{
	if (scan_lit(&s, "VmFlags:"))
		return take_vm_flags(&s, v);
	if (scan_lit(&s, "ProtectionKey:"))
		return take_pkey(&s, v);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (scan_lit(&s, sizes[i].key))
			return take_size(&s, (uint64_t *)((char *)v + sizes[i].offset));
	return true;
}

static bool take_prot(struct scan *s, struct proc_vma *v)
{
	if (s->end - s->p < 4)
		return false;
	v->prot = (s->p[0] == 'r' ? PROT_READ : 0) | (s->p[1] == 'w' ? PROT_WRITE : 0) |
		  (s->p[2] == 'x' ? PROT_EXEC : 0);
	v->is_shared = s->p[3] == 's';
	if (!v->is_shared && s->p[3] != 'p')
		return false;
	s->p += 4;
	return true;
}

static bool take_range(struct scan *s, struct proc_vma *v)
{
	return scan_u64(s, 16, &v->start) && scan_char(s, '-') && scan_u64(s, 16, &v->end) &&
	       scan_char(s, ' ') && v->start < v->end && !((v->start | v->end) % CPX_PAGE_SIZE);
}

static bool take_device(struct scan *s, struct proc_vma *v)
{
	return scan_u32(s, 16, &v->dev_major) && scan_char(s, ':') &&
	       scan_u32(s, 16, &v->dev_minor) && scan_char(s, ' ');
}

static char *unescape_newlines(struct word w)
{
	char *out = strndup(w.p, w.len), *from = out, *to = out;

	if (!out)
		return NULL;
	while (*from) {
		bool is_newline = !strncmp(from, "\\012", 4);

		*to++ = is_newline ? '\n' : *from;
		from += is_newline ? 4 : 1;
	}
	*to = '\0';
	return out;
}

#define DELETED " (deleted)"

static char *take_path(struct scan s, bool *ret_deleted)
{
	struct word w;

	while (scan_char(&s, ' '))
		;
	w = (struct word){s.p, (size_t)(s.end - s.p)};
	*ret_deleted = w.len > strlen(DELETED) &&
		       !memcmp(w.p + w.len - strlen(DELETED), DELETED, strlen(DELETED));
	if (*ret_deleted)
		w.len -= strlen(DELETED);
	return unescape_newlines(w);
}

/* 0, -EBADMSG, -ENOMEM. Only on success v->path is to be freed. */
static int take_mapping(struct scan *s, struct proc_vma *v)
{
	if (!take_range(s, v) || !take_prot(s, v) || !scan_char(s, ' ') ||
	    !scan_u64(s, 16, &v->offset) || !scan_char(s, ' ') || !take_device(s, v) ||
	    !scan_u64(s, 10, &v->ino))
		return -EBADMSG;
	v->path = take_path(*s, &v->is_deleted);
	return v->path ? 0 : -ENOMEM;
}

static bool is_detail(struct scan s)
{
	return s.p < s.end && *s.p >= 'A' && *s.p <= 'Z';
}

static int add_mapping(struct proc_vmas *v, struct scan *line)
{
	struct proc_vma vma = {.kernel_page_size = CPX_PAGE_SIZE};
	uint64_t floor = v->n ? v->vma[v->n - 1].end : 0;
	int r = take_mapping(line, &vma);

	if (r < 0)
		return r;
	if (vma.start < floor || grow(&v->vma, &v->max, v->n, sizeof(vma)) < 0) {
		free(vma.path);
		return vma.start < floor ? -EBADMSG : -ENOMEM;
	}
	v->vma[v->n++] = vma;
	return 0;
}

static int take_line(struct proc_vmas *v, struct scan line)
{
	if (!is_detail(line))
		return add_mapping(v, &line);
	return v->n && take_detail(line, &v->vma[v->n - 1]) ? 0 : -EBADMSG;
}

int proc_vmas_parse(const char *text, size_t len, struct proc_vmas *ret)
{
	struct scan s = scan_of(text, len), line;
	struct proc_vmas v = {0};
	int r = 0;

	while (r == 0 && scan_line(&s, &line))
		r = take_line(&v, line);
	if (r < 0) {
		proc_vmas_release(&v);
		return r;
	}
	*ret = v;
	return 0;
}

int proc_maps(int dir, struct proc_vmas *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "maps", proc_vmas_parse, err, ret);
}

int proc_smaps(int dir, struct proc_vmas *ret, struct err *err)
{
	return PROC_READ_PARSED(dir, "smaps", proc_vmas_parse, err, ret);
}

void proc_vmas_release(struct proc_vmas *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->vma[i].path);
	free(v->vma);
	*v = (struct proc_vmas){0};
}

const struct proc_vma *proc_vmas_find(const struct proc_vmas *v, uint64_t addr)
{
	size_t lo = 0, hi = v->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->vma[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->n && v->vma[lo].start <= addr ? &v->vma[lo] : NULL;
}

void proc_vma_link(const struct proc_vma *v, char *buf, size_t size)
{
	snprintf(buf, size, "map_files/%lx-%lx", (unsigned long)v->start, (unsigned long)v->end);
}

static bool is_same_file(const struct stat *st, const struct stat *mapped)
{
	return st->st_dev == mapped->st_dev && st->st_ino == mapped->st_ino;
}

/* stat of a path of the task's root. The path is absolute in that root. */
static int stat_in_root(int root_fd, const char *path, struct stat *ret)
{
	while (*path == '/')
		path++;
	return fstatat(root_fd, *path ? path : ".", ret, AT_NO_AUTOMOUNT);
}

/* A name with the suffix is shown for a file that is deleted and for one that is called so; it
 * is the second when that whole name leads to the mapped file. */
static int resolve_name(int root_fd, struct proc_vma *v, const struct stat *mapped)
{
	_cleanup_free_ char *whole = NULL;
	struct stat st;

	if (!v->is_deleted || !mapped->st_nlink)
		return 0;
	if (asprintf(&whole, "%s" DELETED, v->path) < 0) {
		whole = NULL;
		return -ENOMEM;
	}
	if (stat_in_root(root_fd, whole, &st) < 0 || !is_same_file(&st, mapped))
		return 0;
	free(v->path);
	v->path = TAKE_PTR(whole);
	v->is_deleted = false;
	return 0;
}

/* Without map_files (unprivileged: needs CAP_CHECKPOINT_RESTORE to follow its links) the mapping's
 * own numbers name the file; on btrfs and overlayfs st_dev may differ from them, so the inode
 * decides there. */
static bool is_mapped_file(const struct proc_vma *v, const struct stat *st)
{
	return st->st_ino == v->ino && st->st_dev == makedev(v->dev_major, v->dev_minor);
}

static int resolve_by_path(int root_fd, struct proc_vma *v, struct stat *ret)
{
	_cleanup_free_ char *whole = NULL;
	struct stat st;

	*ret = (struct stat){0};
	if (!v->is_deleted) {
		if (stat_in_root(root_fd, v->path, &st) == 0 && is_mapped_file(v, &st))
			*ret = st;
		return 0;
	}
	if (asprintf(&whole, "%s" DELETED, v->path) < 0) {
		whole = NULL;
		return -ENOMEM;
	}
	if (stat_in_root(root_fd, whole, &st) < 0 || !is_mapped_file(v, &st))
		return 0;
	free(v->path);
	v->path = TAKE_PTR(whole);
	v->is_deleted = false;
	*ret = st;
	return 0;
}

/* The link has the name as it is. Its target may be read where it may not be followed. */
static int exact_name(int dir, const char *link, struct proc_vma *v)
{
	char name[4352], *copy;
	size_t len;

	if (!strchr(v->path, '\n') || proc_link(dir, link, name, sizeof(name), NULL) < 0)
		return 0;
	len = strlen(name);
	if (v->is_deleted && len > strlen(DELETED))
		name[len - strlen(DELETED)] = '\0';
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	free(v->path);
	v->path = copy;
	return 0;
}

int proc_vma_resolve(int dir, int root_fd, struct proc_vma *v, struct stat *ret_st, struct err *err)
{
	char link[64];
	struct stat st;
	int r;

	if (!v->ino)
		return err_set(err, -EINVAL, "no file is mapped at %lx", (unsigned long)v->start);
	proc_vma_link(v, link, sizeof(link));
	r = exact_name(dir, link, v);
	if (r < 0)
		return err_nomem(err);
	if (fstatat(dir, link, &st, 0) < 0)
		r = resolve_by_path(root_fd, v, &st);
	else
		r = resolve_name(root_fd, v, &st);
	if (r < 0)
		return err_nomem(err);
	*ret_st = st;
	return 0;
}
