/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Netlink sockets: ports, groups, peer, options, a filter; asked before and after, the kernel answers. */
#include "subject.h"

#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static int make(int protocol, uint32_t groups)
{
	struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int fd = MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, protocol));

	MUST(bind(fd, (struct sockaddr *)&name, sizeof(name)));
	return fd;
}

static uint32_t port(int fd)
{
	struct sockaddr_nl name;
	socklen_t len = sizeof(name);

	MUST(getsockname(fd, (struct sockaddr *)&name, &len));
	return name.nl_pid;
}

static void set(int fd, int level, int option, int value)
{
	MUST(setsockopt(fd, level, option, &value, sizeof(value)));
}

static int get(int fd, int level, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	MUST(getsockopt(fd, level, option, &value, &len));
	return value;
}

/* The loopback interface, by its number: an answer for this port. */
static void ask(int fd, uint32_t seq)
{
	struct {
		struct nlmsghdr nlh;
		struct ifinfomsg ifi;
	} q = {.nlh = {.nlmsg_len = sizeof(q), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = seq},
	       .ifi = {.ifi_index = 1}};
	union {
		struct nlmsghdr nlh;
		char bytes[16384];
	} a;
	ssize_t n;

	MUST(send(fd, &q, sizeof(q), 0));
	n = MUST(recv(fd, &a, sizeof(a), 0));
	CHECK(n >= (ssize_t)sizeof(a.nlh), "an answer of %zd bytes", n);
	CHECK_EQ(a.nlh.nlmsg_type, RTM_NEWLINK);
	CHECK_EQ(a.nlh.nlmsg_seq, seq);
	CHECK_EQ(a.nlh.nlmsg_pid, port(fd));
}

static void attach_filter(int fd)
{
	struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 9000}};
	struct sock_fprog prog = {1, code};

	MUST(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
}

static void check_filter(int fd)
{
	struct sock_filter code[4] = {0};
	socklen_t n = 4;

	MUST(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &n));
	CHECK_EQ(n, 1);
	CHECK_EQ(code[0].k, 9000);
}

static void check_peer(int fd, uint32_t wanted)
{
	struct sockaddr_nl peer;
	socklen_t len = sizeof(peer);

	MUST(getpeername(fd, (struct sockaddr *)&peer, &len));
	CHECK_EQ(peer.nl_pid, wanted);
}

int main(int argc, char **argv)
{
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	bool is_root;
	int route, unbound, events, connected, buffer;
	uint32_t route_port, events_port, groups[2] = {0};
	socklen_t len = sizeof(groups);

	subject_init(argc, argv);
	is_root = geteuid() == 0; /* others may send to the kernel only */
	route = make(NETLINK_ROUTE, RTMGRP_NOTIFY);
	set(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set(route, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	set(route, SOL_SOCKET, SO_RCVBUF, 50000);
	buffer = get(route, SOL_SOCKET, SO_RCVBUF);
	unbound = MUST(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG));
	events = make(NETLINK_KOBJECT_UEVENT, 2);
	attach_filter(events);
	set(events, SOL_SOCKET, SO_PASSCRED, 1);
	connected = make(NETLINK_ROUTE, 0);
	route_port = port(route);
	to.nl_pid = is_root ? route_port : 0;
	MUST(connect(connected, (struct sockaddr *)&to, sizeof(to)));
	events_port = port(events);
	ask(route, 1);
	subject_ready();
	subject_wait();
	CHECK_EQ(port(route), route_port);
	CHECK_EQ(port(events), events_port);
	CHECK_EQ(port(unbound), 0);
	check_peer(connected, to.nl_pid);
	MUST(getsockopt(route, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
	CHECK_EQ(groups[0], RTMGRP_NOTIFY);
	CHECK_EQ(get(route, SOL_NETLINK, NETLINK_EXT_ACK), 1);
	CHECK_EQ(get(route, SOL_NETLINK, NETLINK_GET_STRICT_CHK), 1);
	CHECK_EQ(get(route, SOL_NETLINK, NETLINK_CAP_ACK), 0);
	CHECK_EQ(get(route, SOL_SOCKET, SO_RCVBUF), buffer);
	CHECK_EQ(get(unbound, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
	CHECK_EQ(get(unbound, SOL_SOCKET, SO_PROTOCOL), NETLINK_SOCK_DIAG);
	CHECK_EQ(get(events, SOL_SOCKET, SO_PASSCRED), 1);
	check_filter(events);
	CHECK_EQ(fcntl(route, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	ask(route, 2);
	subject_pass();
}
