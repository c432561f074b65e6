/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SO_PEERCRED of sockets that other tasks have made: another user's, one's that has ended; a pair that is
 * named afterwards; options that concern credentials. */
#include "unix_name.h"

static struct unix_name name;

static int client(void *arg)
{
	int fd = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	char byte;

	if (getuid() == 0) {
		MUST(setresgid(54321, 54321, 54321));
		MUST(setresuid(12345, 12345, 12345));
	}
	MUST(connect(fd, unix_sa(&name), name.len));
	subject_child_ready();
	CHECK_EQ(recv(fd, &byte, 1, 0), 1);
	MUST(send(fd, "y", 1, 0));
	return 0;
}

/* Hands the ends of a pair to its parent, and is no more. */
static int maker(void *arg)
{
	int *pair = arg, made[2];

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, made));
	dup2(made[0], pair[0]);
	dup2(made[1], pair[1]);
	return 0;
}

int main(int argc, char **argv)
{
	struct ucred client_cred, made, me = {getpid(), getuid(), getgid()};
	int listener, served, pair[2], named[2], value = 0, zero = 0;
	struct unix_name late;
	socklen_t len = sizeof(value);
	static char stack[65536];
	pid_t child, dead;
	char byte;

	subject_init(argc, argv);
	name = unix_named("@peercred");
	listener = unix_bound(SOCK_STREAM, &name);
	MUST(listen(listener, 1));
	child = subject_fork(client, NULL);
	served = MUST(accept(listener, NULL, NULL));
	close(listener); /* nobody listens any more */
	client_cred = unix_peer(served);
	CHECK_EQ(client_cred.pid, child);
	pair[0] = MUST(open("/dev/null", O_RDWR));
	pair[1] = MUST(open("/dev/null", O_RDWR));
	dead = MUST(clone(maker, stack + sizeof(stack), CLONE_FILES | SIGCHLD, pair));
	MUST(waitpid(dead, NULL, 0));
	made = unix_peer(pair[0]);
	CHECK_EQ(made.pid, dead);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, named));
	late = unix_named("late");
	MUST(bind(named[0], unix_sa(&late), late.len));
	MUST(send(named[0], "hello", 5, 0));
	setsockopt(named[1], SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &zero, sizeof(zero));
	subject_ready();
	subject_wait();
	unix_check_peer(served, &client_cred);
	unix_check_name(served, false, &name);
	MUST(send(served, "x", 1, 0));
	CHECK_EQ(recv(served, &byte, 1, 0), 1);
	unix_check_peer(pair[0], &made);
	unix_check_peer(pair[1], &made);
	unix_say(pair[0], pair[1], "a pair");
	unix_check_name(named[0], false, &late);
	unix_check_name(named[1], true, &late);
	unix_check_peer(named[1], &me);
	unix_hear(named[1], "hello");
	unix_say(named[1], named[0], "and back");
	if (getsockopt(named[1], SOL_SOCKET, 83, &value, &len) == 0)
		CHECK_EQ(value, 0);
	subject_join(child);
	subject_pass();
}
