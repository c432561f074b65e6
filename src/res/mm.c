/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The Mm record: mappings, memory descriptor, auxv, exe. Reads /proc/PID/smaps (VmFlags),
 * map_files, stat, auxv and exe from outside; asks brk(2), because the exact break is in no file,
 * and modify_ldt(2).
 *
 * Refused by name: memory of devices and drivers, userfaultfd, perf rings,
 * secretmem, hugetlbfs files mapped privately, protection keys, sealed mappings, shadow stacks.
 * Cannot see: mlockall(MCL_FUTURE).
 */
#include "res/mm.h"

#include "base/kabi.h"
#include "mem/mem.h"
#include "res/aio.h"
#include "res/attr.h"
#include "res/knownfiles.h"
#include "res/preview.h"
#include "res/uring.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/* What the steps share. */
struct collector {
	struct dump_ctx *c;
	struct tracee *t;
	int dir;     /* /proc/PID */
	int root_fd; /* the task's root directory */
	struct known_root root;
	Cpx__Mm *mm;
	const struct proc_vma *known; /* the last file that was resolved ... */
	struct stat known_st;	      /* ... and its stat */
};

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static int refuse_vma(const struct collector *k, const struct proc_vma *v, const char *why,
		      struct err *err)
{
	char object[512];

	snprintf(object, sizeof(object), "mapping %llx-%llx%s%.400s%s",
		 (unsigned long long)v->start, (unsigned long long)v->end, *v->path ? " (" : "",
		 v->path, *v->path ? ")" : "");
	return attr_refuse(k->c, k->t, object, err, "cannot be checkpointed: %s", why);
}

/* ---- what cannot be carried ---- */

/* Mappings that the kernel names after what is behind them (fs/aio.c, mm/secretmem.c, anon_inodes).
 */
static const struct {
	const char *prefix, *why;
} named_obstacle[] = {
	{"/secretmem", "secret memory (memfd_secret)"},
	{"anon_inode:", "memory of a kernel object that is not carried"},
	{"socket:", "memory of a socket"},
	{"[uprobes]", "it is being traced with uprobes"},
};

static const char *name_obstacle(const struct proc_vma *v)
{
	if (uring_is_map(v) || aio_is_map(v))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(named_obstacle); i++)
		if (starts_with(v->path, named_obstacle[i].prefix))
			return named_obstacle[i].why;
	return NULL;
}

static const char *obstacle(const struct proc_vma *v, char *buf, size_t size)
{
	const char *why = name_obstacle(v);

	if (why)
		return why;
	why = vma_obstacle(v);
	if (why) {
		snprintf(buf, size, "it %s", why);
		return buf;
	}
	if (v->vm_flags & PVM_HUGETLB && v->is_deleted && starts_with(v->path, "/SYSV"))
		return "it is a SysV segment of huge pages";
	if (v->vm_flags & PVM_SYNC)
		return "it is mapped with MAP_SYNC";
	return NULL;
}

static const char *file_obstacle(const struct proc_vma *v, const struct stat *st)
{
	if (st->st_mode && !S_ISREG(st->st_mode))
		return "it is a device's memory";
	if (v->vm_flags & PVM_HUGETLB &&
	    !(v->is_shared && v->is_deleted && starts_with(v->path, "/memfd:")))
		return "it maps a file of hugetlbfs";
	return NULL;
}

/* ---- files and objects behind mappings ---- */

static bool is_same_file(const struct proc_vma *a, const struct proc_vma *b)
{
	return a->ino == b->ino && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
	       !strcmp(a->path, b->path);
}

/* Libraries have several mappings in a row: one look is enough for a file that still has its name.
 */
static int resolve(struct collector *k, struct proc_vma *v, struct err *err)
{
	int r;

	if (k->known && !v->is_deleted && !k->known->is_deleted && is_same_file(k->known, v))
		return 0;
	r = known_files_resolve(k->c, &k->root, k->dir, k->root_fd, v, &k->known_st, err);
	if (r < 0)
		return r;
	k->known = v;
	if (!k->known_st.st_ino) {
		k->known_st.st_ino = v->ino;
		k->known_st.st_dev = makedev(v->dev_major, v->dev_minor);
	}
	return 0;
}

static int add_file(struct collector *k, struct proc_vma *v, Cpx__Vma *vma, struct err *err)
{
	bool is_private = vma->kind == CPX__VMA__KIND__FILE_PRIVATE;
	char link[64], full[96];
	const char *why;
	int r = resolve(k, v, err);

	if (r < 0)
		return r;
	why = file_obstacle(v, &k->known_st);
	if (why)
		return refuse_vma(k, v, why, err);
	proc_vma_link(v, link, sizeof(link));
	snprintf(full, sizeof(full), "%d/%s", attr_speaker(k->t)->tid, link);
	return files_add_mapped(k->c, k->t, v->path, &k->known_st, v->is_deleted,
				!is_private && v->vm_flags & (PVM_WRITE | PVM_MAYWRITE), is_private,
				full, &vma->file, err);
}

/* Shared anonymous memory, SysV segments, shared huge pages: files of file systems that nobody can
 * open by name. */
static int add_object(struct collector *k, struct proc_vma *v, Cpx__Vma *vma,
		      Cpx__Object__Type type, struct err *err)
{
	uint64_t size = v->offset + (v->end - v->start), dev = makedev(v->dev_major, v->dev_minor);
	_cleanup_close_ int fd = -1;
	Cpx__Object *object = NULL;
	struct stat st;
	char link[64];
	int r;

	proc_vma_link(v, link, sizeof(link));
	fd = openat(k->dir, link, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		size = st.st_size;
		dev = st.st_dev;
	}
	r = objects_add(k->c, k->t, type, dev, v->ino, size, fd, v->start, v->end - v->start,
			v->offset, &object, err);
	if (r == 0 && object) {
		vma->object = object->id;
		if (!object->hugepage_shift)
			object->hugepage_shift = vma->hugepage_shift;
	}
	return r;
}

static int add_backing(struct collector *k, struct proc_vma *v, Cpx__Vma *vma, struct err *err)
{
	switch (vma->kind) {
	case CPX__VMA__KIND__FILE_PRIVATE:
	case CPX__VMA__KIND__FILE_SHARED:
		return add_file(k, v, vma, err);
	case CPX__VMA__KIND__SHM_ANON:
		return add_object(k, v, vma, CPX__OBJECT__TYPE__SHM_ANON, err);
	case CPX__VMA__KIND__SYSV:
		return add_object(k, v, vma, CPX__OBJECT__TYPE__SYSV, err);
	case CPX__VMA__KIND__HUGETLB_SHARED:
		return add_object(k, v, vma, CPX__OBJECT__TYPE__HUGETLB, err);
	default:
		return 0;
	}
}

/* ---- mappings ---- */

static void note_special(struct collector *k, const struct proc_vma *v)
{
	if (starts_with(v->path, "[vdso]"))
		k->mm->vdso = v->start;
	else if (starts_with(v->path, "[vvar") && !k->mm->vvar)
		k->mm->vvar = v->start;
}

static int append_vma(struct collector *k, const struct proc_vma *v, Cpx__Vma **ret,
		      struct err *err)
{
	Cpx__Vma *vma = MSG_NEW(Cpx__Vma, cpx__vma__init);

	if (!vma || msg_append(&k->mm->vma, &k->mm->n_vma, vma) < 0) {
		free(vma);
		return err_nomem(err);
	}
	*ret = vma;
	return vma_from_proc(v, vma, err);
}

/* Which io_uring it is of is found out when the descriptors are known. */
static int collect_ring(struct collector *k, const struct proc_vma *v, struct err *err)
{
	Cpx__Vma *vma = NULL;
	int r = append_vma(k, v, &vma, err);

	if (r < 0)
		return r;
	vma->kind = uring_is_map(v) ? CPX__VMA__KIND__URING : CPX__VMA__KIND__AIO;
	return vma->kind == CPX__VMA__KIND__URING ? uring_add_map(k->c, k->t, v, vma, err)
						   : aio_add(k->mm, k->dir, vma, err);
}

static int collect_vma(struct collector *k, struct proc_vma *v, struct err *err)
{
	char buf[128];
	const char *why = name_obstacle(v);
	Cpx__Vma *vma = NULL;
	int r;

	if (!why && vma_is_special(v)) {
		note_special(k, v);
		return 0;
	}
	if (uring_is_map(v) || aio_is_map(v))
		return collect_ring(k, v, err);
	if (k->c->is_watched && v->vm_flags & PVM_UFFD_WP &&
	    k->c->is_watched(k->c->watcher, k->t->pid, v->start, v->end))
		v->vm_flags &= ~(uint64_t)PVM_UFFD_WP;
	why = obstacle(v, buf, sizeof(buf));
	if (why)
		return refuse_vma(k, v, why, err);
	r = append_vma(k, v, &vma, err);
	return r < 0 ? r : add_backing(k, v, vma, err);
}

static int collect_vmas(struct collector *k, struct proc_vmas *vmas, struct err *err)
{
	for (size_t i = 0; i < vmas->n; i++) {
		struct proc_vma *v = &vmas->vma[i];
		int r = collect_vma(k, v, err);

		if (r < 0)
			return err_context(err, "mapping %llx-%llx", (unsigned long long)v->start,
					   (unsigned long long)v->end);
	}
	return 0;
}

static int collect_mappings(struct collector *k, struct err *err)
{
	_cleanup_close_ int root_fd = openat(k->dir, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct proc_vmas vmas = {0};
	int r;

	if (root_fd < 0)
		return err_sys(err, -errno, "cannot open the root directory of the task");
	r = preview_smaps(k->c, k->t, k->dir, &vmas, err);
	if (r < 0)
		return r;
	k->root_fd = root_fd;
	k->root = known_files_root(root_fd);
	r = collect_vmas(k, &vmas, err);
	k->root_fd = -1;
	k->known = NULL;
	if (r == 0)
		tracee_know_maps(k->t, &vmas);
	proc_vmas_release(&vmas);
	return r;
}

/* ---- the memory descriptor ---- */

static int collect_descriptor(struct collector *k, struct err *err)
{
	_cleanup_free_ void *auxv = NULL;
	struct proc_stat st;
	Cpx__Mm *mm = k->mm;
	size_t len = 0;
	int r = proc_stat(k->dir, &st, err);

	if (r == 0)
		r = proc_auxv(k->dir, &auxv, &len, err);
	if (r < 0)
		return r;
	mm->start_code = st.start_code;
	mm->end_code = st.end_code;
	mm->start_data = st.start_data;
	mm->end_data = st.end_data;
	mm->start_brk = st.start_brk;
	mm->start_stack = st.start_stack;
	mm->arg_start = st.arg_start;
	mm->arg_end = st.arg_end;
	mm->env_start = st.env_start;
	mm->env_end = st.env_end;
	return msg_set_bytes(&mm->auxv, auxv, len) < 0 ? err_nomem(err) : 0;
}

static int collect_exe(struct collector *k, struct err *err)
{
	static const char suffix[] = " (deleted)";
	char path[PATH_MAX + 16], link[32];
	struct stat st;
	bool is_deleted;
	size_t len;
	int r = proc_link(k->dir, "exe", path, sizeof(path), err);

	if (r < 0)
		return r;
	if (fstatat(k->dir, "exe", &st, 0) < 0)
		return err_sys(err, -errno, "cannot examine the program of the task");
	len = strlen(path);
	is_deleted = !st.st_nlink && len > sizeof(suffix) &&
		     !strcmp(path + len - (sizeof(suffix) - 1), suffix);
	if (is_deleted)
		path[len - (sizeof(suffix) - 1)] = '\0';
	snprintf(link, sizeof(link), "%d/exe", attr_speaker(k->t)->tid);
	return files_add_mapped(k->c, k->t, path, &st, is_deleted, false, true, link,
				&k->mm->exe_file, err);
}

int mm_collect(struct dump_ctx *c, struct tracee *t, Cpx__Mm **ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	struct collector k = {.c = c, .t = t, .root_fd = -1};
	int r = attr_open(c, t, NULL, &dir, err);

	if (r < 0)
		return r;
	k.dir = dir;
	k.mm = MSG_NEW(Cpx__Mm, cpx__mm__init);
	if (!k.mm)
		return err_nomem(err);
	k.mm->pid = t->pid;
	r = collect_mappings(&k, err);
	if (r == 0)
		r = collect_descriptor(&k, err);
	if (r == 0)
		r = collect_exe(&k, err);
	if (r == 0)
		r = attr_remember_mm(c, t, k.mm, err);
	if (r < 0) {
		cpx__mm__free_unpacked(k.mm, NULL);
		return r;
	}
	*ret = k.mm;
	return 0;
}

/* ---- what only the task can say ---- */

/* scratch[0]: 1 when asked; scratch[1]: brk. */
static int mm_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		  const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[0] = attr_recall_mm(c, t) != NULL;
	if (scratch[0])
		scratch[1] = BATCH_CALL(b, SYS_brk, 0);
	return 0;
}

static int mm_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
		   const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	if (scratch[0])
		attr_recall_mm(c, t)->brk = batch_ret(b, scratch[1]);
	return 0;
}

/* ---- restore: what the kernel must be able to map ---- */

static bool is_droppable_known(void)
{
	void *p = mmap(NULL, CPX_PAGE_SIZE, PROT_READ, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, CPX_PAGE_SIZE);
	return true;
}

static int mm_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		    struct err *err)
{
	const Cpx__Mm *mm = c->image ? image_mm(c->image, task->mm) : NULL;

	for (size_t i = 0; mm && i < mm->n_vma; i++) {
		if (!(mm->vma[i]->vm_flags & VMA_DROPPABLE) || is_droppable_known())
			continue;
		return attr_refuse_restore(
			c, task, "memory", err,
			"cannot be restored: this kernel has no MAP_DROPPABLE (Linux 6.11)");
	}
	return 0;
}

const struct attr_ops mm_attr_ops = {
	.name = "memory descriptor",
	.ask = mm_ask,
	.take = mm_take,
	.check = mm_check,
};
