/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Not for all modes: io_urings with requests in flight, one of them in a helper thread of the kernel.
 * Afterwards each must end as it would have. */
#include "uring.h"

#include <linux/time_types.h>
#include <poll.h>

static struct ring polling, waiting, opening;

static void poll_pipe(int fd)
{
	struct io_uring_sqe *sqe = ring_next(&polling);

	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = fd;
	sqe->poll32_events = POLLIN;
	sqe->user_data = 1;
	ring_publish(&polling);
	CHECK_EQ(ring_enter(&polling, 1, 0), 1);
}

static void start_timeout(void)
{
	static struct __kernel_timespec t = {.tv_sec = 3600};
	struct io_uring_sqe *sqe = ring_next(&waiting);

	sqe->opcode = IORING_OP_TIMEOUT;
	sqe->addr = (uint64_t)&t;
	sqe->len = 1;
	sqe->user_data = 2;
	ring_publish(&waiting);
	CHECK_EQ(ring_enter(&waiting, 1, 0), 1);
}

static void end_timeout(void)
{
	struct io_uring_sqe *sqe = ring_next(&waiting);

	sqe->opcode = IORING_OP_TIMEOUT_REMOVE;
	sqe->addr = 2;
	sqe->user_data = 3;
	ring_publish(&waiting);
	CHECK_EQ(ring_enter(&waiting, 1, 2), 1);
	ring_expect(&waiting, 3, 0);
	ring_expect(&waiting, 2, -ECANCELED);
}

/* Blocks in a helper until somebody opens it for writing. */
static void open_fifo(const char *path)
{
	struct io_uring_sqe *sqe = ring_next(&opening);

	sqe->opcode = IORING_OP_OPENAT;
	sqe->flags = IOSQE_ASYNC;
	sqe->fd = AT_FDCWD;
	sqe->addr = (uint64_t)path;
	sqe->open_flags = O_RDONLY;
	sqe->user_data = 4;
	ring_publish(&opening);
	CHECK_EQ(ring_enter(&opening, 1, 0), 1);
}

int main(int argc, char **argv)
{
	char path[4096];
	int fd[2];

	subject_init(argc, argv);
	snprintf(path, sizeof(path), "%s", subject_path("fifo"));
	MUST(mkfifo(path, 0600));
	MUST(pipe(fd));
	ring_make(&polling, 8, 0, 0, false);
	ring_make(&waiting, 8, 0, 0, false);
	ring_make(&opening, 8, 0, 0, false);
	ring_exercise(&polling, 9);
	poll_pipe(fd[0]);
	start_timeout();
	open_fifo(path);
	subject_ready();
	subject_wait();
	ring_is_empty(&polling);
	ring_is_empty(&opening);
	MUST(write(fd[1], "", 1));
	CHECK_EQ(ring_enter(&polling, 0, 1), 0);
	ring_expect(&polling, 1, POLLIN);
	end_timeout();
	MUST(open(path, O_WRONLY));
	CHECK_EQ(ring_enter(&opening, 0, 1), 0);
	CHECK(ring_take(&opening).res >= 0, "the request was interrupted");
	subject_pass();
}
