/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/mm.c: the record of an address space, and what it refuses. */
#include "attr_case.h"

#include "mem/mem.h"
#include "res/mm.h"

#include <linux/userfaultfd.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/shm.h>

enum { SIZE = 1 << 20 };

/* Addresses that `map_all` has got, at places that every subject shares. */
static struct places {
	uint8_t *anon, *file, *shared, *memfd, *locked, *down, *sysv, *named, *ro_file;
} * at;

static void *map(size_t size, int prot, int flags, int fd)
{
	void *p = mmap(NULL, size, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		_exit(90);
	return p;
}

static int open_file(int flags)
{
	char path[] = "/tmp/cpx-mm-XXXXXX";
	int fd = mkstemp(path), again;

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		_exit(91);
	again = open(path, flags);
	unlink(path);
	close(fd);
	return again;
}

static void map_all(struct subject *s)
{
	int fd = syscall(SYS_memfd_create, "subject", 0), id = shmget(IPC_PRIVATE, SIZE, 0600);

	if (fd < 0 || ftruncate(fd, SIZE) < 0 || id < 0)
		_exit(92);
	at->anon = map(SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	at->shared = map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	at->file = map(SIZE, PROT_READ, MAP_SHARED, open_file(O_RDWR));
	at->ro_file = map(SIZE, PROT_READ, MAP_SHARED, open_file(O_RDONLY));
	at->memfd = map(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	at->locked = map(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	syscall(SYS_mlock, at->locked, 65536); /* not the C library, which sanitizers replace */
	madvise(at->locked, 65536, MADV_DONTFORK);
	at->down =
		map(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1);
	at->sysv = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	at->named = map(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	prctl(0x53564d41, 0, at->named, 65536, "a name");
}

static int share_places(void **state)
{
	at = mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED ? -1 : 0;
}

/* The record and everything that it was made with. */
struct mm_case {
	struct dumped d;
	Cpx__Mm *mm;
};

static void collect(struct subject *s, struct mm_case *k)
{
	struct err err = ERR_INIT;

	dump_begin(s, &k->d);
	k->mm = NULL;
	k->d.ctx.ghost_limit = 1 << 30;
	if (mm_collect(&k->d.ctx, &k->d.tracee, &k->mm, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; attr_registry[i]; i++)
		read_outside(&k->d, attr_registry[i]);
	assert_int_equal(ptrace(PTRACE_DETACH, s->pid, 0, 0), 0);
	ask_thread(s, &k->d, 0);
}

static void case_release(struct mm_case *k)
{
	cpx__mm__free_unpacked(k->mm, NULL);
	files_release(&k->d.ctx);
	objects_release(&k->d.ctx);
	if (k->d.tracee.maps)
		proc_vmas_release(k->d.tracee.maps);
	free(k->d.tracee.maps);
	dumped_release(&k->d);
}

static const Cpx__Vma *vma_at(const Cpx__Mm *mm, const void *addr)
{
	for (size_t i = 0; i < mm->n_vma; i++)
		if (mm->vma[i]->start <= (uintptr_t)addr && (uintptr_t)addr < mm->vma[i]->end)
			return mm->vma[i];
	fail_msg("no mapping at %p", addr);
	return NULL;
}

static void check_kinds(const struct mm_case *k)
{
	const Cpx__Mm *mm = k->mm;

	assert_int_equal(vma_at(mm, at->anon)->kind, CPX__VMA__KIND__ANON);
	assert_int_equal(vma_at(mm, at->anon)->prot, PROT_READ);
	assert_true(vma_at(mm, at->anon)->vm_flags & VMA_NORESERVE);
	assert_int_equal(vma_at(mm, at->shared)->kind, CPX__VMA__KIND__SHM_ANON);
	assert_int_equal(vma_at(mm, at->file)->kind, CPX__VMA__KIND__FILE_SHARED);
	assert_int_equal(vma_at(mm, at->memfd)->kind, CPX__VMA__KIND__FILE_SHARED);
	assert_int_equal(vma_at(mm, at->sysv)->kind, CPX__VMA__KIND__SYSV);
	assert_true(vma_at(mm, at->locked)->vm_flags & VMA_LOCKED);
	assert_true(vma_at(mm, at->locked)->vm_flags & VMA_DONTFORK);
	assert_true(vma_at(mm, at->down)->grows_down);
	if (vma_at(mm, at->named)->name.len) /* CONFIG_ANON_VMA_NAME */
		assert_memory_equal(vma_at(mm, at->named)->name.data, "a name", 6);
	assert_int_equal(vma_at(mm, check_kinds)->kind, CPX__VMA__KIND__FILE_PRIVATE);
	assert_int_equal(vma_at(mm, check_kinds)->file, mm->exe_file);
}

static const Cpx__File *file_of(const struct mm_case *k, const void *addr)
{
	uint32_t id = vma_at(k->mm, addr)->file;

	for (size_t i = 0; i < files_count(&k->d.ctx); i++)
		if (files_get(&k->d.ctx, i)->id == id)
			return files_get(&k->d.ctx, i);
	fail_msg("no file %u", id);
	return NULL;
}

static void test_kinds(void **state)
{
	struct subject s = subject_start(map_all);
	struct mm_case k;

	collect(&s, &k);
	assert_int_equal(k.d.refusals.n, 0);
	check_kinds(&k);
	assert_non_null(file_of(&k, at->memfd)->memfd);
	assert_non_null(file_of(&k, at->file)->regular);
	/* A shared mapping may become writable if and only if its file was opened so. */
	assert_int_equal(file_of(&k, at->file)->flags & O_ACCMODE, O_RDWR);
	assert_int_equal(file_of(&k, at->ro_file)->flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(file_of(&k, check_kinds)->flags & O_ACCMODE, O_RDONLY);
	subject_end(&s);
	case_release(&k);
}

static void move_break(struct subject *s)
{
	syscall(SYS_brk, syscall(SYS_brk, 0) + 12345);
}

static void test_descriptor(void **state)
{
	struct subject s = subject_start(move_break);
	struct mm_case k;
	uint64_t brk;

	collect(&s, &k);
	brk = SUBJECT_CALL(&s, SYS_brk, 0);
	assert_int_equal(k.mm->brk, brk);
	assert_true(k.mm->start_brk + 12345 <= brk);
	assert_int_equal(k.mm->vdso, getauxval(AT_SYSINFO_EHDR));
	assert_true(k.mm->vvar && k.mm->vvar < k.mm->vdso);
	assert_true(k.mm->auxv.len > 100);
	assert_true(k.mm->arg_start < k.mm->arg_end && k.mm->arg_end <= k.mm->env_start);
	assert_true(k.mm->start_code < k.mm->end_code && k.mm->start_stack);
	for (size_t i = 0; i < k.mm->n_vma; i++) {
		assert_true(k.mm->vma[i]->end <= k.mm->vdso || k.mm->vma[i]->start > k.mm->vdso);
		assert_true(!i || k.mm->vma[i - 1]->end <= k.mm->vma[i]->start);
	}
	subject_end(&s);
	case_release(&k);
}

/* ---- refusals ---- */

static void assert_mm_refuses(void (*setup)(struct subject *s), const char *object,
			      const char *reason)
{
	struct subject s = subject_start(setup);
	struct mm_case k;

	collect(&s, &k);
	if (!is_refused(&k.d.refusals, object, reason))
		fail_msg("'%s' is not refused", reason);
	subject_end(&s);
	case_release(&k);
}

static void use_secret(struct subject *s)
{
	int fd = syscall(SYS_memfd_secret, 0);

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		_exit(94);
	map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
}

static void use_userfaultfd(struct subject *s)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	reg.range.start =
		(uintptr_t)map(65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	reg.range.len = 65536;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		_exit(95);
}

static void use_pkey(struct subject *s)
{
	void *p = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int key = pkey_alloc(0, 0);

	if (key < 0 || pkey_mprotect(p, 4096, PROT_READ, key) < 0)
		_exit(96);
}

static bool has_syscall(long nr)
{
	return syscall(nr, -1, -1, -1, -1, -1, -1) >= 0 || errno != ENOSYS;
}

static void test_refusals(void **state)
{
	assert_mm_refuses(use_userfaultfd, "mapping", "userfaultfd");
	if (has_syscall(SYS_memfd_secret))
		assert_mm_refuses(use_secret, "secretmem", "memfd_secret");
}

static void test_pkey(void **state)
{
	int key = pkey_alloc(0, 0);

	if (key < 0)
		skip();
	pkey_free(key);
	assert_mm_refuses(use_pkey, "mapping", "protection key");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_pkey),
	};

	return cmocka_run_group_tests(tests, share_places, NULL);
}
