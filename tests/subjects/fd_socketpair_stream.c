/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stream socketpairs: queued data both ways, half closed, with the peer closed, with buffer sizes. */
#include "subject.h"

#include <sys/socket.h>

static void fill(int fd, size_t len, uint32_t seed)
{
	char *content = malloc(len);

	subject_pattern(content, len, seed);
	CHECK_EQ(write(fd, content, len), len);
	free(content);
}

static void drain(int fd, size_t len, uint32_t seed)
{
	char *content = malloc(len);

	CHECK_EQ(recv(fd, content, len, MSG_WAITALL), len);
	CHECK(subject_is_pattern(content, len, seed), "content %u", seed);
	free(content);
}

static int echo(void *arg)
{
	int fd = (long)arg;
	char c;

	subject_child_ready();
	while (read(fd, &c, 1) == 1)
		if (write(fd, &c, 1) != 1)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	int both[2], half[2], closed[2], child[2];
	char c;
	pid_t pid;

	subject_init(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	fill(both[0], 100000, 1);
	fill(both[0], 10, 5);
	fill(both[1], 50, 2);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, half));
	fill(half[0], 20, 3);
	MUST(shutdown(half[0], SHUT_WR));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, closed));
	fill(closed[0], 30, 4);
	close(closed[0]);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, child));
	pid = subject_fork(echo, (void *)(long)child[1]);
	close(child[1]);
	subject_ready();
	subject_wait();
	drain(both[1], 100000, 1);
	drain(both[1], 10, 5);
	drain(both[0], 50, 2);
	fill(both[0], 5, 9);
	drain(both[1], 5, 9);
	CHECK_EQ(fcntl(half[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	CHECK_EQ(fcntl(half[1], F_GETFD), FD_CLOEXEC);
	drain(half[1], 20, 3);
	CHECK_EQ(read(half[1], &c, 1), 0);
	CHECK_EQ(write(half[0], "x", 1), -1);
	CHECK_EQ(errno, EPIPE);
	MUST(write(half[1], "y", 1));
	CHECK_EQ(read(half[0], &c, 1), 1);
	drain(closed[1], 30, 4);
	CHECK_EQ(read(closed[1], &c, 1), 0);
	CHECK_EQ(write(closed[1], "x", 1), -1);
	MUST(write(child[0], "e", 1));
	CHECK_EQ(read(child[0], &c, 1), 1);
	CHECK_EQ(c, 'e');
	MUST(shutdown(child[0], SHUT_WR));
	subject_join(pid);
	subject_pass();
}
