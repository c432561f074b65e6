/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A FIFO with content, open for reading in the parent, for writing in the child; one opened for both. */
#include "subject.h"

static int writer(void *arg)
{
	int fd = MUST(open(subject_path("fifo"), O_WRONLY));

	MUST(write(fd, "before ", 7));
	subject_child_ready();
	subject_wait();
	MUST(write(fd, "after", 5));
	return 0;
}

int main(int argc, char **argv)
{
	char buf[64] = "";
	int reader, both;
	ssize_t n = 0;
	pid_t pid;

	subject_init(argc, argv);
	MUST(mkfifo(subject_path("fifo"), 0600));
	MUST(mkfifo(subject_path("both"), 0600));
	both = MUST(open(subject_path("both"), O_RDWR | O_NONBLOCK));
	MUST(write(both, "self", 4));
	reader = MUST(open(subject_path("fifo"), O_RDONLY | O_NONBLOCK));
	MUST(fcntl(reader, F_SETFL, 0));
	pid = subject_fork(writer, NULL);
	subject_ready();
	subject_wait();
	subject_join(pid);
	while (n < 12) {
		ssize_t got = read(reader, buf + n, sizeof(buf) - n);

		CHECK(got > 0, "%zd after %zd: %s", got, n, strerror(errno));
		n += got;
	}
	CHECK(strcmp(buf, "before after") == 0, "%s", buf);
	CHECK_EQ(read(reader, buf, 1), 0);
	CHECK_EQ(read(both, buf, sizeof(buf)), 4);
	CHECK_EQ(fcntl(both, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	subject_pass();
}
