/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clients that connect, ask at once, are answered and go, again and again. Dumped wherever they are: with
 * connections that wait to be accepted, empty or with a request in them, and some that are closed already. */
#include "unix_name.h"

enum { CLIENTS = 3 };

static struct unix_name name;

static int server(void *arg)
{
	int listener = *(int *)arg, fd;
	uint32_t request;

	subject_child_ready();
	for (;;) {
		fd = MUST(accept(listener, NULL, NULL));
		unix_check_name(fd, false, &name);
		CHECK_EQ(recv(fd, &request, sizeof(request), MSG_WAITALL), sizeof(request));
		if (!request)
			return 0;
		request = ~request;
		MUST(send(fd, &request, sizeof(request), MSG_NOSIGNAL));
		close(fd);
	}
}

static void ask(uint32_t request, bool patient)
{
	int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	uint32_t reply = 0;

	MUST(connect(fd, unix_sa(&name), name.len));
	if (patient)
		subject_sleep_ms(1);
	MUST(send(fd, &request, sizeof(request), MSG_NOSIGNAL));
	if (request)
		CHECK_EQ(recv(fd, &reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
	CHECK(reply == ~request || !request, "a wrong reply to %u", request);
	if (request)
		CHECK_EQ(recv(fd, &reply, 1, 0), 0);
	close(fd);
}

static int client(void *arg)
{
	uint32_t n = (long)arg;

	subject_child_ready();
	while (!subject_is_go()) {
		n += CLIENTS;
		ask(n, n & 1);
		subject_sleep_ms(n % 3);
	}
	return 0;
}

int main(int argc, char **argv)
{
	pid_t child[CLIENTS], serving;
	int fd;

	subject_init(argc, argv);
	name = unix_named("server");
	fd = unix_bound(SOCK_STREAM, &name);
	MUST(listen(fd, 10));
	serving = subject_fork(server, &fd);
	for (long i = 0; i < CLIENTS; i++)
		child[i] = subject_fork(client, (void *)(i + 1));
	subject_ready();
	subject_wait();
	for (int i = 0; i < CLIENTS; i++)
		subject_join(child[i]);
	ask(0, false);
	subject_join(serving);
	subject_pass();
}
