/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Batches and lanes: filling, and a child that sits in the loop, clones, scans, and leaves. */
#include "arch/arch.h"
#include "base/util.h"
#include "mem/pages.h"
#include "tracee/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define NLANES 3

struct box {
	struct mailbox m;
	uint8_t *code;
	pid_t child;
};

static void *map_shared(size_t size, int prot)
{
	void *p = mmap(NULL, size, prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void box_start(struct box *b)
{
	size_t size;
	const void *code = arch_loop_code(&size);

	b->m.nlanes = NLANES;
	b->m.size = NLANES * LANE_SIZE;
	b->m.local = map_shared(b->m.size, PROT_READ | PROT_WRITE);
	b->m.remote = (uintptr_t)b->m.local;
	b->code = map_shared(CPX_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
	memcpy(b->code, code, size);
	for (size_t i = 0; i < NLANES; i++)
		assert_int_equal(lane_init(mailbox_lane(&b->m, i), NULL), 0);
	b->child = fork();
	if (!b->child)
		arch_jump_loop((uintptr_t)b->code, mailbox_lane_remote(&b->m, 0), 0);
	assert_true(b->child > 0);
}

static void box_stop(struct box *b)
{
	kill(b->child, SIGKILL);
	waitpid(b->child, NULL, 0);
	for (size_t i = 0; i < NLANES; i++)
		lane_retire(mailbox_lane(&b->m, i));
	munmap(b->m.local, b->m.size);
	munmap(b->code, CPX_PAGE_SIZE);
}

static void test_fill(void **state)
{
	uint8_t mem[256];
	struct call calls[2];
	struct batch b = {.call = calls, .max = 2, .data = mem, .remote_data = 0x1000, .size = 256};
	uint64_t at;

	assert_int_equal(BATCH_CALL(&b, 7, 1, 2), 0);
	assert_int_equal(calls[0].arg[1], 2);
	assert_int_equal(calls[0].arg[5], 0);
	assert_int_equal(batch_in_str(&b, "abc"), 0x1000);
	at = batch_out(&b, 200);
	assert_int_equal(at, 0x1010);
	assert_string_equal(batch_local(&b, 0x1000), "abc");
	assert_false(b.overflow);
	assert_true(batch_is_tight(&b, 2, 0));
	assert_true(batch_is_tight(&b, 1, 64));
	assert_false(batch_is_tight(&b, 1, 16));
	assert_int_equal(batch_out(&b, 64), 0);
	assert_true(b.overflow);
	batch_reset(&b);
	assert_int_equal(b.n, 0);
	assert_int_equal(BATCH_CALL(&b, 1), 0);
	assert_int_equal(BATCH_CALL(&b, 1), 1);
	assert_int_equal(BATCH_CALL(&b, 1), 0);
	assert_true(b.overflow);
}

static void test_run(void **state)
{
	struct box box;

	box_start(&box);
	for (int round = 0; round < 100; round++) {
		struct batch b = lane_batch(&box.m, 0);
		uint64_t out = batch_out(&b, 16);
		unsigned pid = BATCH_CALL(&b, SYS_getpid);
		unsigned bad = BATCH_CALL(&b, SYS_close, (uint64_t)-1);
		unsigned res = BATCH_CALL(&b, SYS_getresuid, out, out + 4, out + 8);

		assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
		assert_int_equal(batch_ret(&b, pid), box.child);
		assert_int_equal(batch_ret(&b, bad), -EBADF);
		assert_int_equal(batch_ret(&b, res), 0);
		assert_int_equal(*(uid_t *)batch_local(&b, out), getuid());
	}
	box_stop(&box);
}

static void test_clone_lane(void **state)
{
	struct box box;
	struct batch b, c;
	unsigned i, j;

	box_start(&box);
	b = lane_batch(&box.m, 0);
	i = BATCH_CALL(&b, SYS_clone, SIGCHLD, 0, 0, 0, 0, mailbox_lane_remote(&box.m, 1));
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_true(batch_ret(&b, i) > 0);
	c = lane_batch(&box.m, 1);
	j = BATCH_CALL(&c, SYS_getpid);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 1), &c, -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&c, j), batch_ret(&b, i));
	batch_reset(&c);
	BATCH_CALL(&c, SYS_exit, 5);
	assert_int_equal(lane_post(mailbox_lane(&box.m, 1), &c, NULL), 0);
	j = (unsigned)batch_ret(&b, i);
	b = lane_batch(&box.m, 0);
	i = BATCH_CALL(&b, SYS_wait4, j, 0, __WALL);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&b, i), j);
	box_stop(&box);
}

static void test_zero_scan(void **state)
{
	enum { PAGES = 150 };
	uint8_t *mem = map_shared(PAGES * CPX_PAGE_SIZE, PROT_READ | PROT_WRITE);
	struct box box;
	struct batch b;
	uint64_t map, *bits;

	for (size_t i = 0; i < PAGES; i += 3)
		mem[i * CPX_PAGE_SIZE + (i * 97) % CPX_PAGE_SIZE] = 1;
	mem[PAGES * CPX_PAGE_SIZE - 1] = 1;
	box_start(&box);
	b = lane_batch(&box.m, 0);
	map = batch_out(&b, ALIGN_UP(PAGES, 64UL) / 8);
	BATCH_CALL(&b, CALL_ZERO_SCAN, (uintptr_t)mem, PAGES, map);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&b, 0), 0);
	bits = batch_local(&b, map);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(bits[i / 64] >> i % 64 & 1, i % 3 && i != PAGES - 1);
	box_stop(&box);
	munmap(mem, PAGES * CPX_PAGE_SIZE);
}

/* Against the library: as many pages and pieces as a chunk may have, and fewer. */
static void test_hash(void **state)
{
	enum { PAGES = 256 };
	const unsigned pages[] = {1, 2, 3, 17, PAGES};
	uint8_t *mem = map_shared(2 * PAGES * CPX_PAGE_SIZE, PROT_READ | PROT_WRITE);
	_cleanup_free_ uint8_t *flat = malloc(PAGES * CPX_PAGE_SIZE);
	struct iovec v[PAGES];
	struct box box;

	for (size_t i = 0; i < 2 * PAGES * CPX_PAGE_SIZE; i++)
		mem[i] = (uint8_t)(i * i >> 7 ^ i);
	for (size_t i = 0; i < PAGES; i++) {
		v[i] = (struct iovec){mem + 2 * i * CPX_PAGE_SIZE, CPX_PAGE_SIZE};
		memcpy(flat + i * CPX_PAGE_SIZE, v[i].iov_base, CPX_PAGE_SIZE);
	}
	box_start(&box);
	for (size_t k = 0; k < ARRAY_SIZE(pages); k++) {
		struct iovec one = {mem + CPX_PAGE_SIZE, pages[k] * CPX_PAGE_SIZE};
		struct batch b = lane_batch(&box.m, 0);
		uint64_t secret = twin_hash_secret(&b), acc[2];

		acc[0] = twin_hash_add(&b, batch_in(&b, v, pages[k] * sizeof(*v)), one.iov_len,
				       secret);
		acc[1] = twin_hash_add(&b, batch_in(&b, &one, sizeof(one)), one.iov_len, secret);
		assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
		assert_int_equal(twin_hash_result(&b, acc[0], one.iov_len),
				 XXH3_64bits(flat, one.iov_len));
		assert_int_equal(twin_hash_result(&b, acc[1], one.iov_len),
				 XXH3_64bits(one.iov_base, one.iov_len));
	}
	box_stop(&box);
	munmap(mem, 2 * PAGES * CPX_PAGE_SIZE);
}

static uint64_t word_of(const struct batch *b, unsigned i)
{
	return batch_call_at(b, i) + offsetof(struct call, ret);
}

static void test_skip(void **state)
{
	struct box box;
	struct batch b;
	unsigned first, skip;

	box_start(&box);
	b = lane_batch(&box.m, 0);
	first = BATCH_CALL(&b, SYS_close, -1);
	BATCH_CALL(&b, CALL_SKIP, word_of(&b, first), -EBADF, 1);
	BATCH_CALL(&b, SYS_getpid);
	skip = BATCH_CALL(&b, CALL_SKIP, word_of(&b, first), 0, 2);
	BATCH_CALL(&b, SYS_getpid);
	BATCH_CALL(&b, SYS_getpid);
	BATCH_CALL(&b, SYS_getpid);
	BATCH_CALL(&b, CALL_SKIP, word_of(&b, first), 0, 1);
	BATCH_CALL(&b, SYS_getpid);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&b, 2), box.child);
	assert_int_equal(batch_ret(&b, skip + 1), -ENOSYS);
	assert_int_equal(batch_ret(&b, skip + 2), -ENOSYS);
	assert_int_equal(batch_ret(&b, skip + 3), box.child);
	assert_int_equal(batch_ret(&b, skip + 5), -ENOSYS);
	box_stop(&box);
}

/* Packets are lines here. */
static void test_drain(void **state)
{
	static const char *const packet[] = {"ab;", "c;d", ";", "\\;"};
	struct drain_rules rules = {.kind = {[';'] = DRAIN_ENDS, ['\\'] = 1}, .quote = '\\', .end = '.', .when = DRAIN_IF_UNENDED};
	static const char expected[] = "ab;c\\;d.;\\\\;";
	uint64_t at, tmp;
	struct box box;
	struct batch b;
	unsigned drain;
	int fd[2];

	assert_int_equal(pipe2(fd, O_DIRECT | O_NONBLOCK), 0);
	for (size_t i = 0; i < ARRAY_SIZE(packet); i++)
		assert_int_equal(write(fd[1], packet[i], strlen(packet[i])), strlen(packet[i]));
	box_start(&box);
	b = lane_batch(&box.m, 0);
	tmp = batch_out(&b, 16);
	at = batch_out(&b, 64);
	drain = BATCH_CALL(&b, CALL_DRAIN, fd[0], tmp, 16, 10, batch_in(&b, &rules, sizeof(rules)), at);
	BATCH_CALL(&b, SYS_writev, fd[1], batch_call_at(&b, drain) + offsetof(struct call, arg[5]), 1);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&b, drain), sizeof(expected) - 1);
	assert_memory_equal(batch_local(&b, at), expected, sizeof(expected) - 1);
	assert_int_equal(batch_ret(&b, drain + 1), sizeof(expected) - 1);
	box_stop(&box);
	close(fd[0]);
	close(fd[1]);
}

/* More than a pipe holds; the rest when there is room. */
static void test_put(void **state)
{
	static char data[12000], got[sizeof(data)];
	struct box box;
	struct batch b;
	uint64_t iov[2];
	int fd[2];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = i * 7 + i / 256;
	assert_int_equal(pipe2(fd, O_NONBLOCK), 0);
	assert_int_equal(fcntl(fd[1], F_SETPIPE_SZ, 4096), 4096);
	box_start(&box);
	b = lane_batch(&box.m, 0);
	iov[0] = batch_in(&b, data, sizeof(data));
	iov[1] = sizeof(data);
	BATCH_CALL(&b, CALL_PUT, fd[1], batch_in(&b, iov, sizeof(iov)), 1000, 2);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL), 0);
	assert_in_range(batch_ret(&b, 0), sizeof(data) - 4096, sizeof(data) - 3000);
	assert_int_equal(read(fd[0], got, sizeof(got)), sizeof(data) - batch_ret(&b, 0));
	assert_memory_equal(got, data, sizeof(data) - batch_ret(&b, 0));
	b.call[0].arg[3] = 5000;
	assert_int_equal(lane_post(mailbox_lane(&box.m, 0), &b, NULL), 0);
	for (size_t n = 0; n < sizeof(got);) {
		ssize_t r = read(fd[0], got + n, sizeof(got) - n);

		n += r > 0 ? r : 0;
	}
	assert_int_equal(lane_wait(mailbox_lane(&box.m, 0), -1, 0, NULL), 0);
	assert_int_equal(batch_ret(&b, 0), 0);
	assert_memory_equal(got, data, sizeof(data));
	box_stop(&box);
	close(fd[0]);
	close(fd[1]);
}

/* A process that steers a loop and dies: the loop must end by itself. */
static void test_death(void **state)
{
	int pipefd[2];
	pid_t steerer;
	char byte;

	for (int round = 0; round < 20; round++) {
		assert_int_equal(pipe(pipefd), 0);
		steerer = fork();
		if (!steerer) {
			struct box box;
			struct batch b;

			close(pipefd[0]);
			box_start(&box);
			b = lane_batch(&box.m, 0);
			BATCH_CALL(&b, SYS_getpid);
			if (round % 2)
				lane_run(mailbox_lane(&box.m, 0), &b, -1, 0, NULL);
			else
				lane_post(mailbox_lane(&box.m, 0), &b, NULL);
			kill(getpid(), SIGKILL);
		}
		close(pipefd[1]);
		waitpid(steerer, NULL, 0);
		/* End of file: nobody has the other end any more, the child in the loop included.
		 */
		struct pollfd p = {.fd = pipefd[0], .events = POLLIN};

		assert_int_equal(poll(&p, 1, 5000), 1);
		assert_int_equal(read(pipefd[0], &byte, 1), 0);
		close(pipefd[0]);
	}
}

enum { MANY = 1500 };

/* More lanes than one thread's robust list has room for. */
static void steer_many(struct mailbox *m, uint8_t *code)
{
	size_t size;
	const void *bytes = arch_loop_code(&size);

	m->nlanes = MANY;
	m->size = MANY * LANE_SIZE;
	m->local = map_shared(m->size, PROT_READ | PROT_WRITE);
	m->remote = (uintptr_t)m->local;
	memcpy(code, bytes, size);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(lane_init(mailbox_lane(m, i), NULL), 0);
	if (!fork())
		arch_jump_loop((uintptr_t)code, mailbox_lane_remote(m, MANY - 1), 0);
}

static void test_many(void **state)
{
	uint8_t *code = map_shared(CPX_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
	int pipefd[2];
	char byte;

	assert_int_equal(pipe(pipefd), 0);
	if (!fork()) {
		struct mailbox m;
		struct batch b;

		close(pipefd[0]);
		steer_many(&m, code);
		b = lane_batch(&m, MANY - 1);
		BATCH_CALL(&b, SYS_getpid);
		lane_run(mailbox_lane(&m, MANY - 1), &b, -1, 0, NULL);
		for (size_t i = 0; i < MANY - 1; i++)
			lane_retire(mailbox_lane(&m, i));
		kill(getpid(), SIGKILL);
	}
	close(pipefd[1]);
	struct pollfd p = {.fd = pipefd[0], .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(read(pipefd[0], &byte, 1), 0);
	close(pipefd[0]);
	wait(NULL);
	munmap(code, CPX_PAGE_SIZE);
}

static void test_peer_death(void **state)
{
	struct box box;
	struct batch b;
	struct err err = ERR_INIT;
	int pidfd;

	box_start(&box);
	pidfd = (int)syscall(SYS_pidfd_open, box.child, 0);
	assert_true(pidfd >= 0);
	b = lane_batch(&box.m, 0);
	BATCH_CALL(&b, SYS_exit_group, 0);
	assert_int_equal(lane_run(mailbox_lane(&box.m, 0), &b, pidfd, 0, &err), -ESRCH);
	close(pidfd);
	box_stop(&box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill),	   cmocka_unit_test(test_run),
		cmocka_unit_test(test_clone_lane), cmocka_unit_test(test_zero_scan), cmocka_unit_test(test_hash),
		cmocka_unit_test(test_skip),	   cmocka_unit_test(test_drain),
		cmocka_unit_test(test_put),	   cmocka_unit_test(test_death),
		cmocka_unit_test(test_peer_death), cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
