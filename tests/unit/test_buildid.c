/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Build ids: read from a file, and from a mapping as long as that shows the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "res/buildid.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>

#define FILE_ID 7
#define NOTE_AT CPX_PAGE_SIZE /* so that headers and note are on different pages */

struct note {
	Elf64_Nhdr head;
	char name[4];
	uint8_t id[20];
};

static const struct note a_note = {
	.head = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
	.name = "GNU",
	.id = {0xc0, 0xff, 0xee, [19] = 0x42},
};

/* A program of two pages, mapped once as a whole. */
struct program {
	int fd;
	uint8_t *map;
	Cpx__Vma vma, *list[1];
	Cpx__Mm mm;
	struct mapped_view view;
	struct mapped_views views;
};

static void write_program(int fd)
{
	Elf64_Ehdr eh = {.e_ident = ELFMAG "\2",
			 .e_phoff = sizeof(eh),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 1};
	Elf64_Phdr ph = {.p_type = PT_NOTE, .p_offset = NOTE_AT, .p_filesz = sizeof(a_note)};

	assert_int_equal(ftruncate(fd, 2 * CPX_PAGE_SIZE), 0);
	assert_int_equal(pwrite(fd, &eh, sizeof(eh), 0), sizeof(eh));
	assert_int_equal(pwrite(fd, &ph, sizeof(ph), sizeof(eh)), sizeof(ph));
	assert_int_equal(pwrite(fd, &a_note, sizeof(a_note), NOTE_AT), sizeof(a_note));
}

static void begin(struct program *p)
{
	size_t size = 2 * CPX_PAGE_SIZE;

	*p = (struct program){.fd = memfd_create("program", MFD_CLOEXEC)};
	assert_true(p->fd >= 0);
	write_program(p->fd);
	p->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, p->fd, 0);
	assert_ptr_not_equal(p->map, MAP_FAILED);
	cpx__vma__init(&p->vma);
	p->vma.kind = CPX__VMA__KIND__FILE_PRIVATE;
	p->vma.file = FILE_ID;
	p->vma.start = (uintptr_t)p->map;
	p->vma.end = p->vma.start + size;
	cpx__mm__init(&p->mm);
	p->list[0] = &p->vma;
	p->mm.vma = p->list;
	p->mm.n_vma = 1;
	p->view = (struct mapped_view){getpid(), &p->mm};
	p->views = (struct mapped_views){.view = &p->view, .n = 1, .pagemap_fd = -1};
}

static void end(struct program *p)
{
	if (p->views.pagemap_fd >= 0)
		close(p->views.pagemap_fd);
	munmap(p->map, 2 * CPX_PAGE_SIZE);
	close(p->fd);
}

static void must_be_it(const struct build_id *id)
{
	assert_int_equal(id->len, sizeof(a_note.id));
	assert_memory_equal(id->byte, a_note.id, sizeof(a_note.id));
}

static void test_both_ways(void **state)
{
	struct program p;
	struct build_id id;

	begin(&p);
	assert_int_equal(build_id_of_file(p.fd, &id), 0);
	must_be_it(&id);
	memset(&id, 0, sizeof(id));
	assert_true(build_id_of_mapping(&p.views, FILE_ID, &id));
	must_be_it(&id);
	assert_false(build_id_of_mapping(&p.views, FILE_ID + 1, &id));
	end(&p);
}

/* What the task has written to says nothing about the file, even if it is the same. */
static void test_copied_page(void **state)
{
	for (size_t at = 0; at <= NOTE_AT; at += NOTE_AT) {
		struct program p;
		struct build_id id;

		begin(&p);
		*(volatile uint8_t *)(p.map + at) = p.map[at];
		assert_false(build_id_of_mapping(&p.views, FILE_ID, &id));
		end(&p);
	}
}

static void test_partly_mapped(void **state)
{
	struct program p;
	struct build_id id;

	begin(&p);
	p.vma.end -= CPX_PAGE_SIZE;
	assert_false(build_id_of_mapping(&p.views, FILE_ID, &id));
	p.vma.offset = CPX_PAGE_SIZE;
	assert_false(build_id_of_mapping(&p.views, FILE_ID, &id));
	end(&p);
}

static void test_no_program(void **state)
{
	struct program p;
	struct build_id id;

	begin(&p);
	assert_int_equal(pwrite(p.fd, "#!/", 3, 0), 3);
	assert_true(build_id_of_mapping(&p.views, FILE_ID, &id));
	assert_int_equal(id.len, 0);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),     cmocka_unit_test(test_copied_page),
		cmocka_unit_test(test_partly_mapped), cmocka_unit_test(test_no_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
