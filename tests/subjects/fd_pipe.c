/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pipes: what is in them, their capacity and flags; one whose writers are gone; one between parent and child. */
#include "subject.h"

static int to_child[2], from_child[2];

static int child(void *arg)
{
	char c;

	close(to_child[1]);
	close(from_child[0]);
	subject_child_ready();
	while (read(to_child[0], &c, 1) == 1)
		MUST(write(from_child[1], &c, 1));
	return 0;
}

static void check_full(int fd)
{
	char *content = malloc(200000);
	ssize_t n = 0, got;

	while (n < 150000 && (got = read(fd, content + n, 200000 - n)) > 0)
		n += got;
	CHECK_EQ(n, 150000);
	CHECK(subject_is_pattern(content, n, 6), "content");
	CHECK_EQ(read(fd, content, 1), -1);
	CHECK_EQ(errno, EAGAIN);
	free(content);
}

int main(int argc, char **argv)
{
	int small[2], big[2], half[2], broken[2];
	char buf[64], *content = malloc(150000);
	pid_t pid;

	subject_init(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	MUST(pipe(small));
	MUST(write(small[1], "hello", 5));
	MUST(pipe2(big, O_NONBLOCK | O_CLOEXEC));
	MUST(fcntl(big[1], F_SETPIPE_SZ, 1 << 18));
	subject_pattern(content, 150000, 6);
	CHECK_EQ(write(big[1], content, 150000), 150000);
	MUST(pipe(half));
	MUST(write(half[1], "last words", 10));
	close(half[1]);
	MUST(pipe(broken));
	close(broken[0]);
	MUST(pipe(to_child));
	MUST(pipe(from_child));
	pid = subject_fork(child, NULL);
	close(to_child[0]);
	close(from_child[1]);
	MUST(write(to_child[1], "abc", 3));
	subject_ready();
	subject_wait();
	CHECK_EQ(read(small[0], buf, 64), 5);
	CHECK(memcmp(buf, "hello", 5) == 0, "%.5s", buf);
	MUST(write(small[1], "more", 4));
	CHECK_EQ(read(small[0], buf, 64), 4);
	CHECK_EQ(fcntl(big[0], F_GETPIPE_SZ), 1 << 18);
	CHECK_EQ(fcntl(big[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	CHECK_EQ(fcntl(big[1], F_GETFD), FD_CLOEXEC);
	check_full(big[0]);
	CHECK_EQ(read(half[0], buf, 64), 10);
	CHECK_EQ(read(half[0], buf, 64), 0);
	CHECK_EQ(write(broken[1], "x", 1), -1);
	CHECK_EQ(errno, EPIPE);
	MUST(write(to_child[1], "def", 3));
	close(to_child[1]);
	for (ssize_t n = 0; n < 6; n++)
		CHECK_EQ(read(from_child[0], buf + n, 1), 1);
	CHECK(memcmp(buf, "abcdef", 6) == 0, "%.6s", buf);
	CHECK_EQ(read(from_child[0], buf, 1), 0);
	subject_join(pid);
	subject_pass();
}
