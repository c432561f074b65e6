/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A FIFO with content, open for reading in the parent, for writing in the child; one opened for both; one that was
 * deleted. */
#include "subject.h"

/* As scripts do for a pipe between two programs. */
static void make_deleted(int end[2])
{
	MUST(mkfifo(subject_path("deleted"), 0600));
	end[0] = MUST(open(subject_path("deleted"), O_RDONLY | O_NONBLOCK));
	end[1] = MUST(open(subject_path("deleted"), O_WRONLY));
	MUST(fchmod(end[0], 0240));
	MUST(unlink(subject_path("deleted")));
	MUST(write(end[1], "gone", 4));
}

static void check_deleted(int end[2])
{
	char path[64], link[4400] = "", want[4400], buf[8] = "";
	struct stat a, b;

	MUST(fstat(end[0], &a));
	MUST(fstat(end[1], &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_EQ(a.st_nlink, 0);
	CHECK_EQ(a.st_mode, S_IFIFO | 0240);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", end[1]);
	MUST(readlink(path, link, sizeof(link) - 1));
	snprintf(want, sizeof(want), "%s (deleted)", subject_path("deleted"));
	CHECK(strcmp(link, want) == 0, "%s, not %s", link, want);
	CHECK_EQ(access(subject_path("deleted"), F_OK), -1);
	CHECK_EQ(read(end[0], buf, sizeof(buf)), 4);
	CHECK(strcmp(buf, "gone") == 0, "%s", buf);
	close(end[1]);
	CHECK_EQ(read(end[0], buf, sizeof(buf)), 0);
}

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
	int reader, both, deleted[2];
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
	make_deleted(deleted);
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
	check_deleted(deleted);
	subject_pass();
}
