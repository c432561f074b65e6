/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pipes in packet mode (O_DIRECT): the packets keep their borders. */
#include "subject.h"

int main(int argc, char **argv)
{
	int fds[2];
	char buf[4096];

	subject_init(argc, argv);
	MUST(pipe2(fds, O_DIRECT));
	MUST(write(fds[1], "one", 3));
	MUST(write(fds[1], "three", 5));
	subject_pattern(buf, sizeof(buf), 3);
	MUST(write(fds[1], buf, 4000));
	subject_ready();
	subject_wait();
	CHECK_EQ(fcntl(fds[1], F_GETFL) & O_DIRECT, O_DIRECT);
	CHECK_EQ(read(fds[0], buf, sizeof(buf)), 3);
	CHECK_EQ(read(fds[0], buf, sizeof(buf)), 5);
	CHECK(memcmp(buf, "three", 5) == 0, "%.5s", buf);
	CHECK_EQ(read(fds[0], buf, sizeof(buf)), 4000);
	CHECK(subject_is_pattern(buf, 4000, 3), "content");
	MUST(write(fds[1], "a", 1));
	MUST(write(fds[1], "b", 1));
	CHECK_EQ(read(fds[0], buf, sizeof(buf)), 1);
	CHECK_EQ(read(fds[0], buf, sizeof(buf)), 1);
	subject_pass();
}
