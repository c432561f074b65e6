/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* POSIX message queues: named, unlinked, shared by descriptions and by a child that waits in one. */
#include "subject.h"

#include <linux/mqueue.h>

static char name[64], gone[64];
static int rw, reader, writer, lost, lost_reader;
static struct stat before;

static int queue_open(const char *queue, int flags, struct mq_attr *attr)
{
	return MUST(syscall(SYS_mq_open, queue, flags, 0640, attr));
}

static void send(int fd, const char *text, unsigned priority)
{
	MUST(syscall(SYS_mq_timedsend, fd, text, strlen(text), priority, NULL));
}

static void receive(int fd, const char *text, unsigned priority)
{
	char buf[64] = "";
	unsigned got = 0;

	CHECK_EQ(MUST(syscall(SYS_mq_timedreceive, fd, buf, sizeof(buf), &got, NULL)), strlen(text));
	CHECK(strcmp(buf, text) == 0, "%s", buf);
	CHECK_EQ(got, priority);
}

static int child(void *arg)
{
	subject_child_ready();
	receive(lost_reader, "wake up", 3);
	return 0;
}

static void check_attr(int fd, long maxmsg, long msgsize, long flags)
{
	struct mq_attr attr;

	MUST(syscall(SYS_mq_getsetattr, fd, NULL, &attr));
	CHECK_EQ(attr.mq_maxmsg, maxmsg);
	CHECK_EQ(attr.mq_msgsize, msgsize);
	CHECK_EQ(attr.mq_flags, flags);
	CHECK_EQ(attr.mq_curmsgs, 0);
}

static void set_up(void)
{
	struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 48}, small = {.mq_maxmsg = 2, .mq_msgsize = 16};

	snprintf(name, sizeof(name), "cpx-subject-%d", getpid());
	snprintf(gone, sizeof(gone), "cpx-gone-%d", getpid());
	rw = queue_open(subject_left("mq", name), O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, &attr);
	reader = queue_open(name, O_RDONLY, NULL);
	writer = queue_open(name, O_WRONLY, NULL);
	MUST(fcntl(writer, F_SETFD, 0));
	MUST(fchmod(rw, 0604));
	lost = queue_open(gone, O_CREAT | O_EXCL | O_RDWR, &small);
	lost_reader = queue_open(gone, O_RDONLY, NULL);
	MUST(syscall(SYS_mq_unlink, gone));
	MUST(fstat(rw, &before));
}

static void check_named(void)
{
	struct stat st;
	char c;
	int again = queue_open(name, O_RDONLY, NULL);

	check_attr(rw, 3, 48, O_NONBLOCK);
	check_attr(reader, 3, 48, 0);
	CHECK_EQ(fcntl(writer, F_GETFL) & O_ACCMODE, O_WRONLY);
	CHECK_EQ(fcntl(writer, F_GETFD), 0);
	CHECK_EQ(fcntl(reader, F_GETFD), FD_CLOEXEC);
	MUST(fstat(rw, &st));
	CHECK_EQ(st.st_mode, before.st_mode);
	CHECK_EQ(st.st_uid, before.st_uid);
	CHECK(syscall(SYS_mq_timedreceive, rw, &c, 48, NULL, NULL) < 0);
	send(writer, "low", 1);
	send(rw, "high", 9);
	send(writer, "low too", 1);
	CHECK(syscall(SYS_mq_timedsend, rw, "full", 4, 0, NULL) < 0 && errno == EAGAIN);
	receive(reader, "high", 9);
	receive(again, "low", 1);
	receive(rw, "low too", 1);
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	set_up();
	pid = subject_fork(child, NULL);
	subject_await_state(pid, pid, 'S');
	subject_ready();
	subject_wait();
	check_named();
	check_attr(lost, 2, 16, 0);
	CHECK(syscall(SYS_mq_open, gone, O_RDWR, 0, NULL) < 0 && errno == ENOENT);
	send(lost, "wake up", 3);
	subject_join(pid);
	MUST(syscall(SYS_mq_unlink, name));
	subject_pass();
}
