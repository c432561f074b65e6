/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Datagram and seqpacket socketpairs: queued messages keep their borders; options are kept. */
#include "subject.h"

#include <sys/socket.h>
#include <sys/time.h>

static int make(int type, int *fds)
{
	static char message[3000];
	int i;

	MUST(socketpair(AF_UNIX, type, 0, fds));
	for (i = 1; i <= 5; i++) {
		subject_pattern(message, i * 600, i);
		CHECK_EQ(send(fds[0], message, i * 600, 0), i * 600);
	}
	MUST(send(fds[1], "back", 4, 0));
	return 0;
}

static void check(int *fds, int type)
{
	char message[4000];
	int value;
	socklen_t len = sizeof(value);

	for (int i = 1; i <= 5; i++) {
		CHECK_EQ(recv(fds[1], message, sizeof(message), 0), i * 600);
		CHECK(subject_is_pattern(message, i * 600, i), "message %d", i);
	}
	CHECK_EQ(recv(fds[1], message, 1, MSG_DONTWAIT), -1);
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(recv(fds[0], message, sizeof(message), 0), 4);
	MUST(getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &value, &len));
	CHECK_EQ(value, type);
	MUST(send(fds[0], "new", 3, 0));
	CHECK_EQ(recv(fds[1], message, sizeof(message), 0), 3);
}

static int get(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value;

	MUST(getsockopt(fd, SOL_SOCKET, option, &value, &len));
	return value;
}

int main(int argc, char **argv)
{
	struct timeval limit = {7, 500000}, now;
	socklen_t len = sizeof(now);
	int dgram[2], seq[2], size = 50000, one = 1, sndbuf;

	subject_init(argc, argv);
	make(SOCK_DGRAM, dgram);
	make(SOCK_SEQPACKET, seq);
	MUST(setsockopt(seq[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	MUST(setsockopt(seq[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	MUST(setsockopt(seq[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	sndbuf = get(seq[0], SO_SNDBUF);
	subject_ready();
	subject_wait();
	CHECK_EQ(get(seq[0], SO_SNDBUF), sndbuf);
	CHECK_EQ(get(seq[0], SO_PASSCRED), 1);
	MUST(getsockopt(seq[0], SOL_SOCKET, SO_RCVTIMEO, &now, &len));
	CHECK_EQ(now.tv_sec, 7);
	check(dgram, SOCK_DGRAM);
	check(seq, SOCK_SEQPACKET);
	subject_pass();
}
