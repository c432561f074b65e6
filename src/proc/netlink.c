/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /proc/net/netlink: the netlink sockets of our network namespace (net/netlink/af_netlink.c). */
#include "proc/internal.h"

static bool scan_column(struct scan *s, unsigned base, uint64_t *ret)
{
	scan_blanks(s);
	return scan_u64(s, base, ret);
}

/* "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode" */
static bool scan_socket(struct scan *line, uint64_t *ret_ino, struct proc_netlink *ret)
{
	static const unsigned base[] = {16, 10, 10, 16, 10, 10, 10, 10, 10, 10};
	uint64_t column[ARRAY_SIZE(base)];

	for (size_t i = 0; i < ARRAY_SIZE(base); i++)
		if (!scan_column(line, base[i], &column[i]))
			return false;
	*ret = (struct proc_netlink){.unread = column[4], .is_answering = column[6] != 0};
	*ret_ino = column[9];
	return true;
}

int proc_netlink_parse(const char *text, size_t len, uint64_t ino, struct proc_netlink *ret)
{
	struct scan s = scan_of(text, len), line;
	struct proc_netlink found;
	uint64_t found_ino;

	*ret = (struct proc_netlink){0};
	if (!scan_line(&s, &line))
		return -EBADMSG;
	while (scan_line(&s, &line)) {
		if (!scan_socket(&line, &found_ino, &found))
			return -EBADMSG;
		if (found_ino == ino) {
			*ret = found;
			return 0;
		}
	}
	return 0;
}

int proc_netlink(int proc_fd, uint64_t ino, struct proc_netlink *ret, struct err *err)
{
	return PROC_READ_PARSED(proc_fd, "self/net/netlink", proc_netlink_parse, err, ino, ret);
}
