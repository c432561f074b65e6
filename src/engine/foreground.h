/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A restore in the foreground: cpx stands by as a shell's job does for its command. */
#ifndef CPX_ENGINE_FOREGROUND_H
#define CPX_ENGINE_FOREGROUND_H

#include "base/err.h"
#include "res/res.h"

#include <sys/types.h>

struct foreground {
	pid_t root;
	/* With a coordinator: what ended comes over the channel, signals go by pidfd. */
	pid_t coordinator; /* 0: the root is our own child */
	int root_pidfd, channel;
	int tty_fd; /* -1: none */
	const struct terminal_state *terminal; /* put back at the end and at stops */
};

/* Passes on the signals that others send us, follows stops on a terminal, returns when the root has
 * ended, with its wait status. */
int foreground_wait(const struct foreground *f, int *ret_status, struct err *err);

#endif
