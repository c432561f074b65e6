/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clients and a server, each a task, under load: stream, seqpacket and datagram requests of all sizes, every
 * reply checked; descriptors are passed along. Dumped wherever they are. */
#include "unix_name.h"

#include <poll.h>

#define CLIENTS	 6
#define SIZE_MAX_ 30000

static struct unix_name names[3]; /* by type: below */
static const int types[3] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};

/* With a pipe's read end, if fd is not -1. */
static void send_all(int to, const void *data, size_t len, int fd, struct unix_name *name)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	size_t done = 0;

	while (done < len) {
		struct iovec iov = {(char *)data + done, len - done};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

		if (name) {
			m.msg_name = unix_sa(name);
			m.msg_namelen = name->len;
		}
		if (fd >= 0 && done == 0) {
			control.h = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
			memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
			m.msg_control = &control;
			m.msg_controllen = sizeof(control);
		}
		done += MUST(sendmsg(to, &m, MSG_NOSIGNAL));
	}
}

/* Returns the length; *fd is what came along, else -1. */
static ssize_t receive(int from, void *data, size_t size, int *fd, struct unix_name *name)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {data, size};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			   .msg_controllen = sizeof(control), .msg_name = unix_sa(name),
			   .msg_namelen = sizeof(name->sun)};
	ssize_t n = MUST(recvmsg(from, &m, MSG_CMSG_CLOEXEC));

	*fd = -1;
	CHECK_EQ(m.msg_flags & (MSG_CTRUNC | MSG_TRUNC), 0);
	if (m.msg_controllen && control.h.cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(&control.h), sizeof(int));
	name->len = m.msg_namelen;
	return n;
}

/* Sends back what comes, and what it reads from pipes that come. */
static void answer(int fd, int type)
{
	char buf[SIZE_MAX_], word[5] = "";
	struct unix_name from = {0};
	int passed;
	ssize_t n = receive(fd, buf, sizeof(buf), &passed, &from);

	if (n == 0)
		close(fd);
	else
		send_all(fd, buf, n, -1, type == SOCK_DGRAM ? &from : NULL);
	if (passed < 0)
		return;
	CHECK_EQ(read(passed, word, sizeof(word)), 4);
	CHECK(!strcmp(word, "pipe"), "'%s'", word);
	close(passed);
}

static int server(void *arg)
{
	const int *ready = arg;
	struct pollfd p[3 + CLIENTS];
	int type[3 + CLIENTS], n = 3, open = 0;

	for (int i = 0; i < 3; i++) {
		p[i] = (struct pollfd){ready[i], POLLIN, 0};
		type[i] = types[i];
	}
	subject_child_ready();
	while (n < 3 + CLIENTS / 3 * 2 || open) {
		MUST(poll(p, n, -1));
		for (int i = n - 1; i >= 0; i--) {
			if (!p[i].revents)
				continue;
			if (i < 2) {
				p[n] = (struct pollfd){MUST(accept(p[i].fd, NULL, NULL)), POLLIN, 0};
				type[n++] = types[i];
				open++;
				continue;
			}
			answer(p[i].fd, type[i]);
			if (fcntl(p[i].fd, F_GETFD) < 0) {
				p[i].fd = -1;
				open--;
			}
		}
	}
	return 0;
}

static void exchange(int fd, int type, uint32_t seed, int to_pass)
{
	static char buf[SIZE_MAX_], got[SIZE_MAX_];
	size_t len = 1 + seed * 7919 % (sizeof(buf) - 1), done = 0;

	subject_pattern(buf, len, seed);
	send_all(fd, buf, len, to_pass, NULL);
	while (done < len)
		done += MUST(recv(fd, got + done, len - done, 0));
	CHECK(subject_is_pattern(got, len, seed), "reply %u of type %d", seed, type);
}

static int client(void *arg)
{
	int index = (long)arg, type = types[index % 3], end[2];
	struct unix_name none = {.sun.sun_family = AF_UNIX, .len = sizeof(sa_family_t)};
	int fd = type == SOCK_DGRAM ? unix_bound(type, &none) : MUST(socket(AF_UNIX, type, 0));
	uint32_t seed = index + 1;

	MUST(connect(fd, unix_sa(&names[index % 3]), names[index % 3].len));
	exchange(fd, type, seed, -1); /* accepted */
	subject_child_ready();
	while (!subject_is_go()) {
		MUST(pipe(end));
		MUST(write(end[1], "pipe", 4));
		close(end[1]);
		exchange(fd, type, ++seed, end[0]);
		close(end[0]);
		exchange(fd, type, ++seed, -1);
		subject_sleep_ms(seed % 3);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *text[3] = {"stream", "@seq", "@dgram"};
	pid_t child[CLIENTS], serving;
	int fd[3];

	subject_init(argc, argv);
	for (int i = 0; i < 3; i++) {
		names[i] = unix_named(text[i]);
		fd[i] = unix_bound(types[i], &names[i]);
		if (types[i] != SOCK_DGRAM)
			MUST(listen(fd[i], CLIENTS));
	}
	serving = subject_fork(server, fd);
	for (int i = 0; i < CLIENTS; i++)
		child[i] = subject_fork(client, (void *)(long)i);
	subject_ready();
	subject_wait();
	for (int i = 0; i < CLIENTS; i++)
		subject_join(child[i]);
	subject_join(serving);
	subject_pass();
}
