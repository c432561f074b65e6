/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* io_urings of which a thread of the kernel takes the requests, in the name and with the rights of the
 * task: one watched by an epoll, one bound to a processor. */
#include "uring.h"

#include <dirent.h>
#include <sys/epoll.h>

static struct ring ring, bound;
static int epoll;
static char path[4096];

static void wait_for(struct ring *r, unsigned n)
{
	CHECK_EQ(ring_enter(r, 0, n), 0);
}

static int open_by(struct ring *r, const char *name)
{
	struct io_uring_sqe *sqe = ring_next(r);
	struct io_uring_cqe cqe;

	sqe->opcode = IORING_OP_OPENAT;
	sqe->fd = AT_FDCWD;
	sqe->addr = (uint64_t)name;
	sqe->open_flags = O_RDONLY;
	sqe->user_data = 9;
	ring_publish(r);
	wait_for(r, 1);
	cqe = ring_take(r);
	CHECK_EQ(cqe.user_data, 9);
	if (cqe.res >= 0)
		close(cqe.res);
	return cqe.res < 0 ? cqe.res : 0;
}

static void rounds(struct ring *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		ring_nop(r, i);
		wait_for(r, 1);
		ring_expect(r, i, 0);
	}
}

/* Where the thread of the kernel may run. */
static void check_bound(void)
{
	char file[300], line[128];
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		snprintf(file, sizeof(file), "/proc/self/task/%s/status", e->d_name);
		subject_line(file, "Name:", line, sizeof(line));
		if (!strstr(line, "iou-sqp-"))
			continue;
		subject_line(file, "Cpus_allowed_list:", line, sizeof(line));
		CHECK(strcmp(line, "Cpus_allowed_list:\t0") == 0, "%s", line);
		n++;
	}
	CHECK_EQ(n, 1);
	closedir(d);
}

static int before;

static void make(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 12};

	ring_make(&ring, 8, 0, IORING_SETUP_SQPOLL, false);
	rounds(&ring, 37);
	snprintf(path, sizeof(path), "%s", subject_path("secret"));
	close(MUST(open(path, O_CREAT | O_WRONLY, 0)));
	before = open_by(&ring, path);
	ring_nop(&ring, 1);
	ring_nop(&ring, 2);
	wait_for(&ring, 2);
	epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, ring.fd, &ev));
}

static void check(void)
{
	struct epoll_event ev;

	CHECK_EQ(epoll_wait(epoll, &ev, 1, 0), 1);
	CHECK_EQ(ev.data.u64, 12);
	ring_expect(&ring, 1, 0);
	ring_expect(&ring, 2, 0);
	ring_is_empty(&ring);
	CHECK_EQ(open_by(&ring, path), before);
	rounds(&ring, 50);
}

static int child(void *arg)
{
	close(ring.fd);
	munmap(ring.sq, 4096);
	munmap(ring.sqes, 4096);
	close(epoll);
	ring_make(&bound, 4, 0, IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF, false);
	rounds(&bound, 3);
	check_bound();
	subject_child_ready();
	subject_wait();
	rounds(&bound, 30);
	check_bound();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	make();
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	check();
	subject_join(pid);
	subject_pass();
}
