/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Listening sockets and connections made at them: names, SO_PEERCRED, queues, half closed, the peer
 * closed, those that wait for accept(2), backlog. The clients are in another task. */
#include "unix_name.h"

enum { NORMAL, NAMED, CLOSED, WAITING, ALSO_WAITING, CLIENTS };

struct server {
	int type;
	struct unix_name name, client_name;
	int listener, served[CLIENTS];
	struct ucred self, peer;
};

static int connected(struct server *s, struct unix_name *own)
{
	int fd = own ? unix_bound(s->type, own) : MUST(socket(AF_UNIX, s->type, 0));

	MUST(connect(fd, unix_sa(&s->name), s->name.len));
	return fd;
}

/* The clients, in a child, which checks its ends when it is told to by the normal one. */
static int clients(void *arg)
{
	struct server *s = arg;
	struct ucred listener = s->self;
	int fd[CLIENTS];
	char byte;

	fd[NORMAL] = connected(s, NULL);
	fd[NAMED] = connected(s, &s->client_name);
	fd[CLOSED] = connected(s, NULL);
	MUST(send(fd[CLOSED], "last words", 10, 0));
	MUST(send(fd[NORMAL], "first", 5, 0));
	MUST(send(fd[NORMAL], "second", 6, 0));
	close(fd[CLOSED]);
	CHECK_EQ(recv(fd[NORMAL], &byte, 1, 0), 1); /* the three are accepted */
	fd[WAITING] = connected(s, NULL);
	fd[ALSO_WAITING] = connected(s, NULL);
	subject_child_ready();
	CHECK_EQ(recv(fd[NORMAL], &byte, 1, 0), 1);
	for (int i = 0; i < CLIENTS; i++)
		if (i != CLOSED) {
			unix_check_name(fd[i], true, &s->name);
			unix_check_peer(fd[i], &listener);
		}
	unix_check_name(fd[NAMED], false, &s->client_name);
	unix_hear(fd[NAMED], "answer");
	CHECK_EQ(send(fd[NAMED], "x", 1, MSG_NOSIGNAL), -1); /* the server has shut its end */
	CHECK_EQ(errno, EPIPE);
	MUST(send(fd[WAITING], "w", 1, 0));
	MUST(send(fd[ALSO_WAITING], "also", 4, 0));
	CHECK_EQ(recv(fd[WAITING], &byte, 1, 0), 0);
	return 0;
}

static void serve(struct server *s, const char *name, const char *client, int type, pid_t *child)
{
	s->type = type;
	s->name = unix_named(name);
	s->client_name = unix_named(client);
	s->listener = unix_bound(type, &s->name);
	MUST(listen(s->listener, 3));
	s->self = (struct ucred){getpid(), getuid(), getgid()};
	*child = -1;
}

static void accept_some(struct server *s)
{
	for (int i = 0; i < WAITING; i++)
		s->served[i] = MUST(accept4(s->listener, NULL, NULL, SOCK_CLOEXEC));
	s->peer = unix_peer(s->served[NORMAL]);
	MUST(send(s->served[NORMAL], "g", 1, 0));
	MUST(send(s->served[NAMED], "answer", 6, 0));
	MUST(shutdown(s->served[NAMED], SHUT_RD));
}

static void *acceptor(void *arg)
{
	accept_some(arg);
	return NULL;
}

static void check(struct server *s)
{
	struct ucred me = {getpid(), getuid(), getgid()};
	int listening = 0, fd;
	socklen_t len = sizeof(listening);

	MUST(getsockopt(s->listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len));
	CHECK_EQ(listening, 1);
	unix_check_name(s->listener, false, &s->name);
	unix_check_peer(s->listener, &me);
	for (int i = 0; i < WAITING; i++) {
		unix_check_name(s->served[i], false, &s->name);
		unix_check_peer(s->served[i], &s->peer);
		CHECK_EQ(fcntl(s->served[i], F_GETFD), FD_CLOEXEC);
		CHECK_EQ(fcntl(s->served[i], F_GETFL) & O_NONBLOCK, 0);
	}
	unix_check_name(s->served[NAMED], true, &s->client_name);
	if (s->type == SOCK_STREAM) {
		unix_hear(s->served[NORMAL], "firstsecond");
	} else {
		unix_hear(s->served[NORMAL], "first");
		unix_hear(s->served[NORMAL], "second");
	}
	unix_hear(s->served[CLOSED], "last words");
	CHECK_EQ(recv(s->served[CLOSED], &len, 1, 0), 0);
	MUST(send(s->served[NORMAL], "c", 1, 0));
	fd = MUST(accept(s->listener, NULL, NULL));
	unix_check_peer(fd, &s->peer);
	unix_check_name(fd, false, &s->name);
	CHECK_EQ(recv(fd, &len, 1, 0), 1);
	close(fd);
	fd = MUST(accept(s->listener, NULL, NULL));
	CHECK_EQ(recv(fd, &listening, 4, 0), 4);
	close(fd);
	/* and new ones; the fifth finds no place (backlog + 1) */
	for (int i = 0; i < 5; i++) {
		fd = MUST(socket(AF_UNIX, s->type | SOCK_NONBLOCK, 0));
		CHECK_EQ(connect(fd, unix_sa(&s->name), s->name.len), i < 4 ? 0 : -1);
	}
	CHECK_EQ(errno, EAGAIN);
}

int main(int argc, char **argv)
{
	static struct server s[3];
	pid_t child[3];
	struct stat st, now;

	subject_init(argc, argv);
	serve(&s[0], "server", "client", SOCK_STREAM, &child[0]);
	serve(&s[1], "@server", "@client", SOCK_STREAM, &child[1]);
	serve(&s[2], subject_path("seq"), "@client", SOCK_SEQPACKET, &child[2]);
	MUST(chmod("server", 0750));
	MUST(stat("server", &st));
	for (int i = 0; i < 3; i++) {
		pthread_t t = subject_thread(acceptor, &s[i]);

		child[i] = subject_fork(clients, &s[i]);
		subject_join_thread(t);
	}
	subject_ready();
	subject_wait();
	MUST(stat("server", &now));
	CHECK_EQ(now.st_mode, st.st_mode);
	CHECK_EQ(now.st_uid, st.st_uid);
	for (int i = 0; i < 3; i++) {
		check(&s[i]);
		subject_join(child[i]);
	}
	subject_pass();
}
