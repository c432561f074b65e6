/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Page selection both ways, what a mapping is, chunks of extents, filling: on mappings of this very
 * process. */
#include "base/kabi.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define P CPX_PAGE_SIZE

static uint8_t *map_anon(size_t pages, int prot)
{
	void *p = mmap(NULL, pages * P, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	madvise(p, pages * P, MADV_NOHUGEPAGE);
	return p;
}

static struct page_ranges select_pages(const void *at, size_t pages)
{
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY);
	struct page_ranges out = {0};
	struct err err = ERR_INIT;

	if (pages_select(fd, (uintptr_t)at, (uintptr_t)at + pages * P, &out, &err) < 0)
		fail_msg("%s", err.msg);
	return out;
}

static bool is_selected(const struct page_ranges *r, const uint8_t *page)
{
	for (size_t i = 0; i < r->n; i++)
		if ((uintptr_t)page - r->r[i].addr < r->r[i].len)
			return true;
	return false;
}

/* Which pages of `pages` are selected, as '1' and '0'. */
static void check_selected(const uint8_t *at, size_t pages, const char *expected)
{
	struct page_ranges r = select_pages(at, pages);
	char got[129] = "";
	size_t n = 0;

	for (size_t i = 0; i < pages; i++) {
		got[i] = is_selected(&r, at + i * P) ? '1' : '0';
		n += got[i] == '1';
	}
	assert_string_equal(got, expected);
	assert_int_equal(r.bytes, n * P);
	page_ranges_release(&r);
}

static void deny_scan(bool deny)
{
	if (deny)
		setenv("CPX_DENY", "other,pagemap_scan", 1);
	else
		unsetenv("CPX_DENY");
}

static void test_select_anon(void **state)
{
	uint8_t *p = map_anon(16, PROT_READ | PROT_WRITE);
	volatile uint8_t read;

	p[0] = 1;
	p[3 * P] = p[4 * P + 5] = 1;
	read = p[7 * P]; /* the shared zero page */
	(void)read;
	p[9 * P] = 0; /* a page of its own, though zero */
	p[12 * P] = 1;
	madvise(p + 12 * P, P, MADV_DONTNEED);
	p[15 * P] = 1;
	mprotect(p + 3 * P, P, PROT_NONE);
	check_selected(p, 16, "1001100001000001");
	deny_scan(true);
	check_selected(p, 16, "1001100101000001");
	deny_scan(false);
	munmap(p, 16 * P);
}

static void test_select_guards(void **state)
{
	uint8_t *p = map_anon(4, PROT_READ | PROT_WRITE);

	memset(p, 1, 4 * P);
	if (madvise(p + P, P, MADV_GUARD_INSTALL) < 0) {
		munmap(p, 4 * P);
		skip();
	}
	check_selected(p, 4, "1011");
	deny_scan(true);
	check_selected(p, 4, "1011");
	deny_scan(false);
	munmap(p, 4 * P);
}

static void check_guards(Cpx__Mm *mm, bool is_aside, const uint64_t *expected, size_t n)
{
	struct err err = ERR_INIT;

	assert_int_equal(guards_find(mm, getpid(), is_aside, &err), 0);
	assert_int_equal(mm->n_guard, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(mm->guard[i]->start, expected[2 * i]);
		assert_int_equal(mm->guard[i]->end, expected[2 * i + 1]);
		free(mm->guard[i]);
	}
	free(mm->guard);
	mm->guard = NULL;
	mm->n_guard = 0;
}

static void test_guards(void **state)
{
	uint8_t *p = map_anon(1024, PROT_READ | PROT_WRITE);
	uint64_t at = (uintptr_t)p, few[] = {at + P, at + 3 * P, at + 9 * P, at + 10 * P};
	uint64_t last[] = {at + 1023 * P, at + 1024 * P}, many[600];
	Cpx__Vma first = CPX__VMA__INIT, second = CPX__VMA__INIT, *vma[] = {&first, &second};
	Cpx__Mm mm = CPX__MM__INIT;

	if (madvise(p + P, 2 * P, MADV_GUARD_INSTALL) < 0) {
		munmap(p, 1024 * P);
		skip();
	}
	madvise(p + 9 * P, P, MADV_GUARD_INSTALL);
	madvise(p + 1023 * P, P, MADV_GUARD_INSTALL);
	first.start = at;
	first.end = second.start = at + 1000 * P;
	second.end = at + 1024 * P;
	second.vm_flags = VMA_WIPEONFORK;
	mm.vma = vma;
	mm.n_vma = 2;
	check_guards(&mm, false, few, 2);
	check_guards(&mm, true, last, 1);
	madvise(p, 1000 * P, MADV_GUARD_REMOVE);
	for (size_t i = 0; i < 300; i++) { /* more than one call finds */
		many[2 * i] = at + 3 * i * P;
		many[2 * i + 1] = many[2 * i] + P;
		madvise(p + 3 * i * P, P, MADV_GUARD_INSTALL);
	}
	check_guards(&mm, false, many, 300);
	munmap(p, 1024 * P);
}

static void test_select_file(void **state)
{
	_cleanup_close_ int fd = memfd_create("file", MFD_CLOEXEC);
	uint8_t *private, *shared;
	volatile uint8_t read;

	assert_int_equal(ftruncate(fd, 8 * P), 0);
	private = mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	shared = mmap(NULL, 8 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	read = private[P];
	(void)read;
	private[2 * P] = 1;
	private[6 * P] = 0;
	memset(shared + 3 * P, 1, P);
	for (int deny = 0; deny < 2; deny++) {
		deny_scan(deny);
		check_selected(private, 8, "00100010");
		check_selected(shared, 8, "00000000");
	}
	deny_scan(false);
	munmap(private, 8 * P);
	munmap(shared, 8 * P);
}

/* More regions than one call gives, and than fit one read of entries. */
static void test_select_many(void **state)
{
	size_t pages = 10000;
	uint8_t *p = map_anon(pages, PROT_READ | PROT_WRITE);
	struct page_ranges a, b;

	for (size_t i = 0; i < pages; i += 3)
		p[i * P] = 1;
	a = select_pages(p, pages);
	deny_scan(true);
	b = select_pages(p, pages);
	deny_scan(false);
	assert_int_equal(a.n, 3334);
	assert_int_equal(a.bytes, 3334 * P);
	assert_int_equal(b.n, a.n);
	assert_memory_equal(a.r, b.r, a.n * sizeof(*a.r));
	page_ranges_release(&a);
	page_ranges_release(&b);
	munmap(p, pages * P);
}

/* ---- vma.c ---- */

static Cpx__Vma what_is(const void *at, struct proc_vmas *keep)
{
	_cleanup_close_ int dir = -1;
	Cpx__Vma vma;
	struct err err = ERR_INIT;
	const struct proc_vma *v;

	cpx__vma__init(&vma);
	assert_int_equal(proc_open(-1, getpid(), 0, &dir, NULL), 0);
	assert_int_equal(proc_smaps(dir, keep, NULL), 0);
	v = proc_vmas_find(keep, (uintptr_t)at);
	assert_non_null(v);
	assert_false(vma_is_special(v));
	assert_null(vma_obstacle(v));
	assert_int_equal(vma_from_proc(v, &vma, &err), 0);
	return vma;
}

static void check_kind(const void *at, Cpx__Vma__Kind kind, uint64_t flags)
{
	struct proc_vmas maps;
	Cpx__Vma v = what_is(at, &maps);

	assert_int_equal(v.kind, kind);
	assert_int_equal(v.vm_flags, flags);
	free(v.name.data);
	proc_vmas_release(&maps);
}

static void test_kinds(void **state)
{
	_cleanup_close_ int fd = memfd_create("file", MFD_CLOEXEC);
	_cleanup_close_ int zero = open("/dev/zero", O_RDWR);
	uint8_t *anon = map_anon(1, PROT_READ);
	void *shm = mmap(NULL, P, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *private, *shared, *null;

	assert_int_equal(ftruncate(fd, P), 0);
	private = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, 0);
	shared = mmap(NULL, P, PROT_READ, MAP_SHARED, fd, 0);
	null = mmap(NULL, P, PROT_READ, MAP_PRIVATE, zero, 0);
	assert_int_equal(madvise(anon, P, MADV_DONTDUMP), 0);
	assert_int_equal(madvise(anon, P, MADV_WIPEONFORK), 0);
	check_kind(anon, CPX__VMA__KIND__ANON, VMA_DONTDUMP | VMA_WIPEONFORK | VMA_NOHUGEPAGE);
	check_kind(shm, CPX__VMA__KIND__SHM_ANON, 0);
	check_kind(private, CPX__VMA__KIND__FILE_PRIVATE, 0);
	check_kind(shared, CPX__VMA__KIND__FILE_SHARED, 0);
	check_kind(null, CPX__VMA__KIND__ANON, 0);
	munmap(anon, P);
	munmap(shm, P);
	munmap(private, P);
	munmap(shared, P);
	munmap(null, P);
}

static void test_name(void **state)
{
	uint8_t *p = map_anon(3, PROT_READ);
	struct proc_vmas maps;
	Cpx__Vma v;

	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p + P, P, "my name") < 0)
		skip();
	v = what_is(p + P, &maps);
	assert_int_equal(v.name.len, 7);
	assert_memory_equal(v.name.data, "my name", 7);
	free(v.name.data);
	proc_vmas_release(&maps);
	munmap(p, 3 * P);
}

/* ---- chunks ---- */

static void test_chunks(void **state)
{
	struct page_chunks c = {0};

	assert_int_equal(page_chunks_add(&c, 16 * P, 300 * P), 0); /* cut at 1 MiB */
	assert_int_equal(page_chunks_add(&c, 316 * P, P), 0);	   /* touches */
	assert_int_equal(c.n, 2);
	assert_int_equal(c.chunk[0].bytes, CHUNK_MAX);
	assert_int_equal(c.chunk[1].bytes, 45 * P);
	assert_int_equal(c.next, 2);
	page_chunks_clear(&c);
	for (unsigned i = 0; i < 2 * EXTENTS_MAX; i += 2)
		assert_int_equal(page_chunks_add(&c, i * P, P), 0);
	assert_int_equal(c.n, 1);
	assert_int_equal(page_chunks_add(&c, 10000 * P, P), 0);
	assert_int_equal(c.n, 2);
	assert_int_equal(c.chunk[1].first, EXTENTS_MAX);
	page_chunks_release(&c);
}

static void test_is_zero(void **state)
{
	_Alignas(8) uint8_t page[P] = {0};

	assert_true(page_is_zero(page));
	for (size_t i = 0; i < P; i += 509) {
		page[i] = 1;
		assert_false(page_is_zero(page));
		page[i] = 0;
	}
	page[P - 1] = 1;
	assert_false(page_is_zero(page));
}

/* ---- filling ---- */

struct fresh {
	uint64_t start, end;
};

static bool is_fresh(uint64_t addr, uint64_t *end, void *arg)
{
	const struct fresh *f = arg;
	bool is_inside = addr >= f->start && addr < f->end;

	if (addr < f->start || is_inside)
		*end = MIN(*end, is_inside ? f->end : f->start);
	return is_inside;
}

static int make_uffd(void *at, size_t len)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {
		.range = {(uintptr_t)at, len},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd >= 0) {
		assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
		assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	}
	return fd;
}

static void fill_and_check(const struct fill_target *t, uint8_t *p)
{
	struct piece piece[] = {{(uintptr_t)p + P, 2 * P, 5 * P}, {(uintptr_t)p + 5 * P, 5 * P, 0}};
	struct chunk_ref c = {.kind = CHUNK_DATA, .piece = piece, .n = 2};
	_cleanup_free_ uint8_t *data = malloc(7 * P);
	struct err err = ERR_INIT;

	for (size_t i = 0; i < 7 * P; i++)
		data[i] = (uint8_t)(i / P + i % 7 + 1);
	if (fill_chunk(t, &c, data, &err) < 0)
		fail_msg("%s", err.msg);
	mprotect(p, 10 * P, PROT_READ | PROT_WRITE);
	assert_memory_equal(p + P, data + 5 * P, 2 * P);
	assert_memory_equal(p + 5 * P, data, 5 * P);
	check_selected(p, 10, "0110011111");
}

/* Ten pages in two mappings. The middle of the first one, 1 to 6, is registered; page 2 exists already,
 * page 9 cannot be written. */
static void test_fill(void **state)
{
	uint8_t *p = map_anon(10, PROT_READ | PROT_WRITE);
	_cleanup_close_ int mem = open("/proc/self/mem", O_RDWR);
	_cleanup_close_ int uffd = -1;
	struct fresh f = {(uintptr_t)p + P, (uintptr_t)p + 7 * P};
	Cpx__Mm mm;
	Cpx__Vma vma[2], *vmas[2] = {&vma[0], &vma[1]};
	struct fill_target t = {getpid(), mem, -1, &mm, is_fresh, &f};

	p[2 * P] = 99;
	cpx__mm__init(&mm);
	for (int i = 0; i < 2; i++) {
		cpx__vma__init(&vma[i]);
		vma[i].start = (uintptr_t)p + (i ? 8 * P : 0);
		vma[i].end = (uintptr_t)p + (i ? 10 * P : 8 * P);
	}
	mm.n_vma = 2;
	mm.vma = vmas;
	mprotect(p + 9 * P, P, PROT_NONE);
	uffd = t.uffd = make_uffd(p + P, 6 * P);
	if (uffd < 0)
		skip();
	fill_and_check(&t, p);
	munmap(p, 10 * P);
}

static void test_fill_zero_and_nowhere(void **state)
{
	_cleanup_close_ int fd = memfd_create("file", MFD_CLOEXEC),
			    mem = open("/proc/self/mem", O_RDWR);
	uint8_t ones[P];
	uint8_t *p;
	Cpx__Mm mm;
	Cpx__Vma vma, *vmas = &vma;
	struct fresh none = {0};
	struct fill_target t = {getpid(), mem, -1, &mm, is_fresh, &none};
	struct piece piece = {0};
	struct chunk_ref c = {.kind = CHUNK_ZERO, .piece = &piece, .n = 1};

	cpx__mm__init(&mm);
	cpx__vma__init(&vma);
	memset(ones, 1, P);
	for (int i = 0; i < 40; i++)
		assert_int_equal(write(fd, ones, P), P);
	p = mmap(NULL, 40 * P, PROT_READ, MAP_PRIVATE, fd, 0);
	vma.start = (uintptr_t)p;
	vma.end = (uintptr_t)p + 40 * P;
	mm.n_vma = 1;
	mm.vma = &vmas;
	piece = (struct piece){(uintptr_t)p + P, 38 * P, 0};
	assert_int_equal(fill_chunk(&t, &c, NULL, NULL), 0);
	assert_int_equal(p[0], 1);
	assert_true(page_is_zero(p + P) && page_is_zero(p + 38 * P));
	assert_int_equal(p[39 * P], 1);
	c.kind = CHUNK_DATA;
	piece = (struct piece){vma.end, P, 0};
	assert_int_equal(fill_chunk(&t, &c, ones, NULL), -EBADMSG);
	munmap(p, 40 * P);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_select_anon), cmocka_unit_test(test_select_guards),
		cmocka_unit_test(test_guards),
		cmocka_unit_test(test_select_file), cmocka_unit_test(test_select_many),
		cmocka_unit_test(test_kinds),	    cmocka_unit_test(test_name),
		cmocka_unit_test(test_chunks),	    cmocka_unit_test(test_is_zero),
		cmocka_unit_test(test_fill),	    cmocka_unit_test(test_fill_zero_and_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
