/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in POSIX message queues: order, priorities, lengths; through descriptors for one direction alone; who
 * waits for room. */
#include "subject.h"

#include <linux/mqueue.h>

enum { SIZE = 200, MOST = 6 };

static const struct {
	unsigned priority;
	size_t len;
} plan[MOST] = {{3, 200}, {0, 0}, {7, 1}, {3, 199}, {32767, 17}, {0, 64}};
static const int order[MOST] = {4, 2, 0, 3, 1, 5};
static int both, reader, writer;
static char name[64], gone[64];

static int queue_open(const char *queue, int flags)
{
	struct mq_attr attr = {.mq_maxmsg = MOST, .mq_msgsize = SIZE};

	return MUST(syscall(SYS_mq_open, queue, flags, 0600, flags & O_CREAT ? &attr : NULL));
}

static void send(int fd, int i)
{
	char buf[SIZE];

	subject_pattern(buf, SIZE, 100 + i);
	MUST(syscall(SYS_mq_timedsend, fd, buf, plan[i].len, plan[i].priority, NULL));
}

static void receive(int fd, int i)
{
	char buf[SIZE] = "";
	unsigned priority = 0;

	CHECK_EQ(MUST(syscall(SYS_mq_timedreceive, fd, buf, sizeof(buf), &priority, NULL)), plan[i].len);
	CHECK_EQ(priority, plan[i].priority);
	CHECK(subject_is_pattern(buf, plan[i].len, 100 + i), "message %d", i);
}

static void check_count(int fd, long count)
{
	struct mq_attr attr;

	MUST(syscall(SYS_mq_getsetattr, fd, NULL, &attr));
	CHECK_EQ(attr.mq_curmsgs, count);
}

static int wait_for_room(void *arg)
{
	subject_child_ready();
	send(writer, 1);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t child;

	subject_init(argc, argv);
	snprintf(name, sizeof(name), "cpx-messages-%d", getpid());
	snprintf(gone, sizeof(gone), "cpx-full-%d", getpid());
	both = queue_open(subject_left("mq", name), O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK);
	writer = queue_open(gone, O_WRONLY | O_CREAT | O_EXCL);
	reader = queue_open(gone, O_RDONLY);
	MUST(syscall(SYS_mq_unlink, gone));
	for (int i = 0; i < MOST; i++) {
		if (i < MOST - 1)
			send(both, i);
		send(writer, i);
	}
	child = subject_fork(wait_for_room, NULL);
	subject_await_state(child, child, 'S');
	subject_ready();
	subject_wait();
	check_count(both, MOST - 1);
	check_count(reader, MOST);
	subject_await_state(child, child, 'S');
	for (int i = 0; i < MOST - 1; i++)
		receive(both, order[i]);
	receive(reader, order[0]);
	subject_join(child);
	for (int i = 1; i < MOST; i++)
		receive(reader, order[i]);
	receive(reader, 1);
	check_count(both, 0);
	check_count(writer, 0);
	MUST(syscall(SYS_mq_unlink, name));
	subject_pass();
}
