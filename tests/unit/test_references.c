/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images whose frames are all right but whose records contradict each other: none may get past
 * image_open() (or the writer). One line each: what is changed in the sample. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/util.h"
#include "../golden/sample.h"

/* clang-format off */
#define BREAKS(X) \
	X(root_pid, s->image.root_pid = 5) \
	X(parent, s->child.ppid = 99) \
	X(self_parent, s->child.ppid = 102) \
	X(second_root, s->child.ppid = 0) \
	X(cycle, s->root.ppid = 102) \
	X(zombie_parent, s->child.ppid = 103; s->zombie.ppid = 100) \
	X(pid_twice, s->zombie.pid = 102) \
	X(tid_twice, s->thread[1].tid = 102) \
	X(leader, s->thread[0].tid = 105) \
	X(no_thread, s->child.n_thread = 0) \
	X(all_exited, s->thread[2].exited = true) \
	X(exited_thread, s->thread[1].exited = true) \
	X(pid_zero, s->zombie.pid = 0) \
	X(pid_huge, s->zombie.pid = 1u << 31) \
	X(regs, s->thread[1].gp_regs.len = 8) \
	X(creds, s->thread[1].creds = NULL) \
	X(fs, s->child.fs = NULL) \
	X(cwd_nul, s->fs.cwd = (ProtobufCBinaryData){3, (uint8_t *)"/\0x"}) \
	X(siginfo, s->pending[0].len = 64) \
	X(signo, s->action.signo = 65) \
	X(mm, s->child.mm = 7) \
	X(fd_table, s->child.fd_table = 7) \
	X(zombie_mm, s->zombie.mm = 1) \
	X(state, s->zombie.state = 9) \
	X(mm_order, s->mm[0].parent_mm = 2) \
	X(mm_self, s->mm[0].parent_mm = 1) \
	X(mm_pid, s->mm[1].pid = 100) \
	X(exe, s->mm[0].exe_file = 42) \
	X(mm_id, s->object.id = 1; s->vma[2].object = 1) \
	X(vma_align, s->vma[1].end += 1) \
	X(vma_empty, s->vma[0].end = s->vma[0].start) \
	X(vma_order, s->vmas[0] = &s->vma[1]; s->vmas[1] = &s->vma[0]) \
	X(vma_overlap, s->vma[0].end = SAMPLE_HEAP + CPX_PAGE_SIZE) \
	X(vma_kernel, s->vma[2].end = 0xffffffffff600000) \
	X(vma_file, s->vma[0].file = 50) \
	X(vma_object, s->vma[2].object = 50) \
	X(vma_object_type, s->object.type = CPX__OBJECT__TYPE__MEMFD) \
	X(vma_anon_file, s->vma[1].file = 1) \
	X(vma_kind, s->vma[1].kind = 70) \
	X(vma_prot, s->vma[1].prot = 8) \
	X(vma_offset, s->vma[0].offset = -CPX_PAGE_SIZE) \
	X(vdso, s->mm[0].vdso = SAMPLE_HEAP) \
	X(brk, s->mm[0].start_brk = 0x1000) \
	X(bound, s->mm[0].env_end = -1) \
	X(fd_twice, s->fd[2].fd = 1) \
	X(fd_file, s->fd[2].file = 20) \
	X(two_bodies, s->file[0].pipe = &s->pipe) \
	X(no_body, s->file[0].regular = NULL) \
	X(ghost, s->regular.ghost = SAMPLE_OBJECT) \
	X(path, s->regular.path = NULL) \
	X(peer, s->socket[0].peer_ino = 5) \
	X(peer_self, s->socket[0].peer_ino = 88) \
	X(ino_twice, s->socket[1].ino = 88) \
	X(peer_type, s->socket[1].type = 2) \
	X(unconnected, s->socket[1].unconnected = true) \
	X(accepted, s->socket[0].accepted = true) \
	X(listening, s->socket[0].listening = true) \
	X(sysv, s->object.type = CPX__OBJECT__TYPE__SYSV) \
	X(object_size, s->object.size = CPX_PAGE_SIZE) \
	X(inherit, s->mm[1].parent_mm = 0) \
	X(heap, s->vma[1].end = SAMPLE_HEAP + 10 * CPX_PAGE_SIZE) \
	X(shared_pages, s->vma[1].kind = CPX__VMA__KIND__FILE_SHARED; s->vma[1].file = 1) \
	X(arch, s->host.arch = (char *)"pdp11") \
	X(host, s->image.host = NULL) \
	X(page_size, s->host.page_size = 65536)
/* clang-format on */

#define FUNCTION(name, ...)                                                                        \
	static void break_##name(struct sample *s)                                                 \
	{                                                                                          \
		__VA_ARGS__;                                                                       \
	}
BREAKS(FUNCTION)

#define ENTRY(name, ...) {#name, break_##name},
static const struct {
	const char *name;
	void (*fn)(struct sample *s);
} breaks[] = {BREAKS(ENTRY)};

static int open_image(const uint8_t *data, size_t size, struct err *err)
{
	struct image *im = NULL;
	struct source src;
	int r;

	source_open_memory(&src, data, size);
	r = image_open(&src, NULL, &im, err);
	image_free(im);
	source_release(&src);
	return r;
}

static void test_references(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(breaks); i++) {
		struct image_writer_options o = {CODEC_LZ4};
		struct err err = ERR_INIT;
		struct sample s;
		uint8_t *data;
		size_t size;

		sample_init(&s);
		breaks[i].fn(&s);
		if (sample_make(&s, &o, &data, &size, &err) < 0)
			continue; /* the writer minds already */
		if (open_image(data, size, &err) >= 0)
			fail_msg("%s goes unnoticed", breaks[i].name);
		assert_true(strlen(err.msg) > 10);
		free(data);
	}
}

/* The sample itself is fine, or the test above would show nothing. */
static void test_unbroken(void **state)
{
	struct image_writer_options o = {CODEC_LZ4};
	struct err err = ERR_INIT;
	struct sample s;
	uint8_t *data;
	size_t size;

	sample_init(&s);
	assert_int_equal(sample_make(&s, &o, &data, &size, &err), 0);
	assert_int_equal(open_image(data, size, &err), 0);
	free(data);
}

static int open_sample(struct sample *s)
{
	struct image_writer_options o = {CODEC_LZ4};
	struct err err = ERR_INIT;
	uint8_t *data;
	size_t size;
	int r;

	assert_int_equal(sample_make(s, &o, &data, &size, &err), 0);
	r = open_image(data, size, &err);
	free(data);
	return r;
}

/* What an epoll watches and whose pidfd it is must be there. */
static void test_events(void **state)
{
	Cpx__EpollItem item = CPX__EPOLL_ITEM__INIT, *items[] = {&item};
	Cpx__Epoll epoll = CPX__EPOLL__INIT;
	Cpx__PidFd pidfd = CPX__PID_FD__INIT;
	struct sample s;

	sample_init(&s);
	epoll.item = items;
	epoll.n_item = 1;
	s.file[0].regular = NULL;
	s.file[0].epoll = &epoll;
	item.file = 2;
	assert_int_equal(open_sample(&s), 0);
	item.file = 50;
	assert_int_equal(open_sample(&s), -EBADMSG);
	item.file = 2;
	item.fd = 1U << 30;
	assert_int_equal(open_sample(&s), -EBADMSG);
	s.file[0].epoll = NULL;
	s.file[0].pidfd = &pidfd;
	assert_int_equal(open_sample(&s), 0);
	pidfd.pid = 102;
	assert_int_equal(open_sample(&s), 0);
	pidfd.pid = 1234;
	assert_int_equal(open_sample(&s), -EBADMSG);
}

/* Ends outside of the tree. */
static void test_external(void **state)
{
	Cpx__External e = CPX__EXTERNAL__INIT;
	uint8_t path[] = "/x";
	struct sample s;

	sample_init(&s);
	s.file[0].regular = NULL;
	s.file[0].pipe = &s.pipe;
	s.pipe.external = &e;
	assert_int_equal(open_sample(&s), 0);
	e.what = CPX__EXTERNAL__WHAT__RECONNECT;
	assert_int_equal(open_sample(&s), -EBADMSG);
	e.what = CPX__EXTERNAL__WHAT__FILE;
	assert_int_equal(open_sample(&s), -EBADMSG);
	e.path = (ProtobufCBinaryData){2, path};
	assert_int_equal(open_sample(&s), 0);
	s.pipe.external = NULL;
	s.socket[0].external = &e;
	e.what = CPX__EXTERNAL__WHAT__RECONNECT;
	assert_int_equal(open_sample(&s), -EBADMSG);
	s.socket[0].peer_ino = s.socket[1].peer_ino = 0;
	s.socket[0].n_message = 0;
	assert_int_equal(open_sample(&s), -EBADMSG);
	s.socket[0].peer_name = e.path;
	assert_int_equal(open_sample(&s), 0);
	s.socket[0].shut_read = true;
	assert_int_equal(open_sample(&s), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_unbroken),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_external),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
