/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What messages carry besides data: descriptors (of files that nobody else has, of one that somebody
 * has, of the socket itself) and credentials, between bytes that carry none. */
#include "unix_name.h"

static void send_with(int to, const char *text, const int *fd, int n, const struct ucred *cred)
{
	union {
		struct cmsghdr h;
		char buf[256];
	} control = {0};
	struct iovec iov = {(void *)text, strlen(text)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
	size_t len = cred ? sizeof(*cred) : n * sizeof(int);

	m.msg_controllen = CMSG_SPACE(len);
	control.h = (struct cmsghdr){CMSG_LEN(len), SOL_SOCKET, cred ? SCM_CREDENTIALS : SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.h), cred ? (const void *)cred : fd, len);
	CHECK_EQ(sendmsg(to, &m, 0), strlen(text));
}

/* Returns how many descriptors came along. */
static int receive(int from, size_t max, const char *text, int *fd, struct ucred *cred)
{
	union {
		struct cmsghdr h;
		char buf[256];
	} control = {0};
	char buf[100] = "";
	struct iovec iov = {buf, max};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	int n = 0;

	CHECK_EQ(recvmsg(from, &m, MSG_DONTWAIT), strlen(text));
	CHECK(!strcmp(buf, text), "'%s', not '%s'", buf, text);
	CHECK_EQ(m.msg_flags & MSG_CTRUNC, 0);
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_type == SCM_RIGHTS) {
			n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fd, CMSG_DATA(h), n * sizeof(int));
		} else if (h->cmsg_type == SCM_CREDENTIALS) {
			memcpy(cred, CMSG_DATA(h), sizeof(*cred));
		}
	}
	return n;
}

/* A pipe with something in it, of which only its read end remains, and that in a message. */
static int full_pipe(void)
{
	int end[2];

	MUST(pipe(end));
	MUST(write(end[1], "in the pipe", 11));
	close(end[1]);
	return end[0];
}

static void make(int to, int shared)
{
	int fd[2] = {full_pipe(), shared};

	MUST(send(to, "before", 6, 0));
	send_with(to, "two", fd, 2, NULL);
	close(fd[0]);
	MUST(send(to, "after", 5, 0));
	fd[0] = to;
	send_with(to, "itself", fd, 1, NULL);
}

static void check_two(const int *fd, int shared)
{
	char buf[20] = "";

	CHECK_EQ(read(fd[0], buf, sizeof(buf)), 11);
	CHECK(!strcmp(buf, "in the pipe"), "'%s'", buf);
	CHECK_EQ(read(fd[0], buf, sizeof(buf)), 0);
	MUST(lseek(shared, 17, SEEK_SET)); /* one description: one position */
	CHECK_EQ(lseek(fd[1], 0, SEEK_CUR), 17);
	close(fd[0]);
	close(fd[1]);
}

static void check(int from, int shared, bool is_stream)
{
	struct ucred cred;
	int fd[10];

	/* descriptors come with their first byte, not before */
	CHECK_EQ(receive(from, 6, "before", fd, &cred), 0);
	CHECK_EQ(receive(from, 100, "two", fd, &cred), 2);
	check_two(fd, shared);
	CHECK_EQ(receive(from, 5, "after", fd, &cred), 0);
	CHECK_EQ(receive(from, 100, "itself", fd, &cred), 1);
	unix_say(fd[0], from, is_stream ? "through it, a stream" : "through it");
}

static int speaker(void *arg)
{
	struct ucred me = {getpid(), getuid(), getgid()};

	send_with((long)arg, "credentials", NULL, 0, &me);
	subject_child_ready();
	pause();
	return 0;
}

int main(int argc, char **argv)
{
	struct ucred cred = {0}, mine = {0};
	int stream[2], dgram[2], seq[2], creds[2], shared, one = 1;
	pid_t child;

	subject_init(argc, argv);
	shared = MUST(open(subject_path("file"), O_CREAT | O_RDWR, 0600));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, creds));
	make(stream[0], shared);
	make(dgram[0], shared);
	make(seq[0], shared);
	MUST(setsockopt(creds[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	MUST(send(creds[0], "from me", 7, 0));
	child = subject_fork(speaker, (void *)(long)creds[0]);
	subject_ready();
	subject_wait();
	check(stream[1], shared, true);
	check(dgram[1], shared, false);
	check(seq[1], shared, false);
	receive(creds[1], 100, "from me", NULL, &mine);
	CHECK_EQ(mine.pid, getpid());
	receive(creds[1], 100, "credentials", NULL, &cred);
	CHECK_EQ(cred.pid, child);
	CHECK_EQ(cred.uid, getuid());
	cred = unix_peer(creds[0]);
	CHECK_EQ(cred.pid, getpid());
	MUST(kill(child, SIGKILL));
	MUST(waitpid(child, NULL, 0));
	subject_pass();
}
