/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets with and without names: paths, deleted and renamed ones, abstract, autobound; datagrams with
 * their senders; one-way connections, to a dead peer too. */
#include "unix_name.h"

static struct unix_name path, autobound, dead, lost, moved, odd;
static int receiver, sender, oneway, orphan, gone, renamed, abstract, fresh, half;

static int get(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value = -1;

	MUST(getsockopt(fd, SOL_SOCKET, option, &value, &len));
	return value;
}

static void make(void)
{
	struct unix_name none = {.sun.sun_family = AF_UNIX, .len = sizeof(sa_family_t)};
	int fd, one = 1;

	path = unix_named("receiver");
	receiver = unix_bound(SOCK_DGRAM, &path);
	sender = unix_bound(SOCK_DGRAM, &none);
	autobound.len = sizeof(autobound.sun);
	MUST(getsockname(sender, unix_sa(&autobound), &autobound.len));
	MUST(sendto(sender, "named", 5, 0, unix_sa(&path), path.len));
	oneway = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(connect(oneway, unix_sa(&path), path.len));
	MUST(send(oneway, "nameless", 8, 0));
	MUST(setsockopt(oneway, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)));
	dead = unix_named("@dead");
	fd = unix_bound(SOCK_DGRAM, &dead);
	MUST(sendto(fd, "dead", 4, 0, unix_sa(&path), path.len));
	orphan = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(connect(orphan, unix_sa(&dead), dead.len));
	close(fd);
	/* an odd name: NULs and no end */
	odd = unix_named("@odd");
	memcpy(odd.sun.sun_path + 20, "a\0b\0\0", 5);
	odd.len = sizeof(odd.sun);
	abstract = unix_bound(SOCK_SEQPACKET, &odd);
	fresh = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(setsockopt(fresh, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)));
	MUST(setsockopt(fresh, SOL_SOCKET, SO_LINGER, &(struct linger){1, 9}, sizeof(struct linger)));
	half = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	MUST(shutdown(half, SHUT_WR));
}

/* Where the file is not at its name any more, which only root can find out. */
static void make_moved(void)
{
	lost = unix_named(subject_path("lost"));
	gone = unix_bound(SOCK_DGRAM, &lost);
	MUST(unlink("lost"));
	close(MUST(open("lost", O_CREAT | O_WRONLY, 0600)));
	moved = unix_named("./moved");
	renamed = unix_bound(SOCK_DGRAM, &moved);
	MUST(rename("moved", "renamed"));
	MUST(chmod("renamed", 0604));
}

static void hear_from(const char *text, const struct unix_name *from)
{
	struct unix_name got = {.len = sizeof(got.sun)};
	char buf[20] = "";

	CHECK_EQ(recvfrom(receiver, buf, sizeof(buf), MSG_DONTWAIT, unix_sa(&got), &got.len),
		 strlen(text));
	CHECK(!strcmp(buf, text), "'%s', not '%s'", buf, text);
	CHECK_EQ(got.len, from ? from->len : 0);
	CHECK(!from || !memcmp(&got.sun, &from->sun, got.len), "wrong sender of '%s'", text);
}

static void check(void)
{
	struct linger linger;
	socklen_t len = sizeof(linger);
	int fd;

	unix_check_name(receiver, false, &path);
	hear_from("named", &autobound);
	hear_from("nameless", NULL);
	hear_from("dead", &dead);
	CHECK_EQ(recv(receiver, &fd, 1, MSG_DONTWAIT), -1);
	unix_check_name(sender, false, &autobound);
	MUST(sendto(sender, "again", 5, 0, unix_sa(&path), path.len));
	hear_from("again", &autobound);
	unix_check_name(oneway, true, &path);
	unix_say(oneway, receiver, "one way");
	CHECK_EQ(get(oneway, SO_BROADCAST), 1);
	unix_check_name(orphan, true, &dead);
	CHECK_EQ(send(orphan, "x", 1, MSG_NOSIGNAL), -1);
	CHECK_EQ(errno, ECONNREFUSED);
	unix_check_name(abstract, false, &odd);
	fd = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
	CHECK_EQ(bind(fd, unix_sa(&odd), odd.len), -1);
	CHECK_EQ(errno, EADDRINUSE);
	CHECK_EQ(get(fresh, SO_KEEPALIVE), 1);
	MUST(getsockopt(fresh, SOL_SOCKET, SO_LINGER, &linger, &len));
	CHECK_EQ(linger.l_linger, 9);
	CHECK_EQ(unix_peer(fresh).uid, (uid_t)-1);
	CHECK_EQ(fcntl(fresh, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(sendto(half, "x", 1, MSG_NOSIGNAL, unix_sa(&path), path.len), -1);
	CHECK_EQ(errno, EPIPE);
}

static void check_moved(void)
{
	struct unix_name at = unix_named("renamed");
	struct stat st;

	unix_check_name(gone, false, &lost);
	MUST(stat("lost", &st));
	CHECK(S_ISREG(st.st_mode), "the file that took its place");
	unix_check_name(renamed, false, &moved);
	MUST(stat("renamed", &st));
	CHECK_EQ(st.st_mode, S_IFSOCK | 0604);
	CHECK_EQ(access("moved", F_OK), -1);
	MUST(sendto(sender, "to it", 5, 0, unix_sa(&at), at.len));
	unix_hear(renamed, "to it");
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	make();
	if (getuid() == 0)
		make_moved();
	subject_ready();
	subject_wait();
	check();
	if (getuid() == 0)
		check_moved();
	subject_pass();
}
