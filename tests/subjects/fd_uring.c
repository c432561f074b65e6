/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An io_uring: results not taken, requests not submitted, registered buffers, files and eventfd; one
 * shared with a child, and watched by an epoll. */
#include "uring.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

enum { FILE_PLACE = 2, FILES = 5 };

static struct ring main_ring, shared, waiting;
static volatile pid_t waiter;
static uint8_t buffer[3 * 4096 + 7] = "not yet", *mapped;
static int file, event, epoll, turn[2];

static void register_all(struct ring *r)
{
	struct iovec iov[4] = {{NULL, 0}, {buffer, sizeof(buffer)}, {NULL, 0}, {mapped, 8192}};
	int fd[FILES] = {-1, -1, file, -1, -1};

	MUST(syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, iov, 4));
	MUST(syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES, fd, FILES));
	MUST(syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_EVENTFD, &event, 1));
}

static void fixed(struct ring *r, int op, unsigned place, void *addr, unsigned len, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_next(r);

	sqe->opcode = op;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->fd = FILE_PLACE;
	sqe->addr = (uint64_t)addr;
	sqe->len = len;
	sqe->buf_index = place;
	sqe->user_data = user_data;
	ring_publish(r);
	CHECK_EQ(ring_enter(r, 1, 1), 1);
}

static void check_registered(struct ring *r)
{
	char back[32] = "";

	strcpy((char *)buffer + 5, "from a registered buffer");
	fixed(r, IORING_OP_WRITE_FIXED, 1, buffer + 5, 24, 61);
	ring_expect(r, 61, 24);
	CHECK_EQ(pread(file, back, sizeof(back), 0), 24);
	CHECK(strcmp(back, "from a registered buffer") == 0, "%s", back);
	fixed(r, IORING_OP_READ_FIXED, 3, mapped + 100, 24, 62);
	ring_expect(r, 62, 24);
	CHECK(memcmp(mapped + 100, back, 24) == 0, "%.24s", mapped + 100);
	fixed(r, IORING_OP_READ_FIXED, 2, mapped, 1, 63); /* an empty place */
	ring_expect(r, 63, -EFAULT);
}

static void check_ring(struct ring *r)
{
	uint64_t count;

	CHECK_EQ(*ring_sq(r, r->p.sq_off.head), r->tail - 2);
	ring_expect(r, 103, 0);
	ring_expect(r, 104, 0);
	ring_is_empty(r);
	CHECK_EQ(ring_enter(r, 2, 2), 2);
	ring_expect(r, 201, 0);
	ring_expect(r, 202, 0);
	ring_is_empty(r);
	MUST(read(event, &count, sizeof(count)));
	CHECK_EQ(count, 7 + 1); /* once for both */
	check_registered(r);
	ring_exercise(r, 40);
}

static void check_epoll(void)
{
	struct epoll_event ev;

	CHECK_EQ(epoll_wait(epoll, &ev, 1, 0), 1);
	CHECK_EQ(ev.data.u64, 4711);
	ring_expect(&shared, 5, 0);
	CHECK_EQ(epoll_wait(epoll, &ev, 1, 0), 0);
}

/* Waits for a result of what another thread is yet to submit: not interrupted, whatever happens. */
static void *wait_for_result(void *arg)
{
	struct ring *r = arg;

	waiter = gettid();
	CHECK_EQ(ring_enter(r, 0, 1), 0);
	ring_expect(r, 88, 0);
	return NULL;
}

static void check_waiting(struct ring *r, pthread_t t)
{
	subject_await_state(getpid(), waiter, 'S');
	ring_nop(r, 88);
	CHECK_EQ(ring_enter(r, 1, 0), 1);
	subject_join_thread(t);
	ring_exercise(r, 3);
}

/* The child submits what the parent takes. */
static int child(void *arg)
{
	char byte;

	subject_child_ready();
	CHECK_EQ(read(turn[0], &byte, 1), 1);
	ring_nop(&shared, 77);
	CHECK_EQ(ring_enter(&shared, 1, 0), 1);
	return 0;
}

static void make(void)
{
	ring_make(&main_ring, 8, 0, 0, false);
	file = MUST(open(subject_path("a file"), O_RDWR | O_CREAT, 0600));
	event = MUST(eventfd(0, EFD_NONBLOCK));
	mapped = MUST(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	ring_exercise(&main_ring, 31);
	register_all(&main_ring);
	for (int i = 0; i < 5; i++)
		ring_nop(&main_ring, 100 + i);
	CHECK_EQ(ring_enter(&main_ring, 5, 5), 5);
	for (int i = 0; i < 3; i++)
		ring_expect(&main_ring, 100 + i, 0);
	MUST(eventfd_write(event, 2));
	ring_nop(&main_ring, 201);
	ring_nop(&main_ring, 202);
}

static void make_shared(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 4711};

	ring_make(&shared, 4, 0, 0, true);
	ring_exercise(&shared, 5);
	ring_nop(&shared, 5);
	CHECK_EQ(ring_enter(&shared, 1, 1), 1);
	epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, shared.fd, &ev));
}

int main(int argc, char **argv)
{
	uint64_t count;
	pthread_t t;
	pid_t pid;

	subject_init(argc, argv);
	make();
	make_shared();
	MUST(pipe(turn));
	pid = subject_fork(child, NULL);
	MUST(read(event, &count, sizeof(count)));
	MUST(eventfd_write(event, 7));
	ring_make(&waiting, 16, 0, 0, false);
	t = subject_thread(wait_for_result, &waiting);
	while (!waiter)
		subject_sleep_ms(1);
	subject_await_state(getpid(), waiter, 'S');
	subject_ready();
	subject_wait();
	check_waiting(&waiting, t);
	check_ring(&main_ring);
	check_epoll();
	MUST(write(turn[1], "", 1));
	subject_join(pid);
	shared.tail++;
	ring_expect(&shared, 77, 0);
	ring_exercise(&shared, 20);
	subject_pass();
}
