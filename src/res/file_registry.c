/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kinds of descriptors, one line each. The first that matches takes it. */
#include "res/files.h"

/* clang-format off: a line each */
const struct file_ops *const file_registry[] = {
	&pathonly_file_ops, /* whatever it refers to */
	&pty_file_ops,
	&mqueue_file_ops,
	&terminal_file_ops,
	&chardev_file_ops,
	&pidfd_file_ops,
	&procfile_file_ops,
	&memfd_file_ops,
	&regular_file_ops,
	&directory_file_ops,
	&pipe_file_ops,
	&epoll_file_ops,
	&eventfd_file_ops,
	&timerfd_file_ops,
	&signalfd_file_ops,
	&inotify_file_ops,
	&fanotify_file_ops,
	&uring_file_ops,
	&unix_file_ops,
	&netlink_file_ops,
	&unsupported_file_ops,
	NULL,
};
