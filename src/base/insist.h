/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPX_BASE_INSIST_H
#define CPX_BASE_INSIST_H

#include <sys/types.h>

/*
 * ptrace(2), for requests without which a thread can be neither let go nor put back where it was: 0,
 * or -errno. -ESRCH (dead, or it runs) is an answer. Anything else means that something between us
 * and the kernel denies the call: it is made again, a few times.
 */
int ptrace_insist(int request, pid_t tid, void *addr, void *data);

#endif
