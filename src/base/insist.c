/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/insist.h"

#include <errno.h>
#include <sys/ptrace.h>

#define TRIES 3

int ptrace_insist(int request, pid_t tid, void *addr, void *data)
{
	int r = -EPERM;

	for (int i = 0; r && r != -ESRCH && i < TRIES; i++)
		r = ptrace((enum __ptrace_request)request, tid, addr, data) ? -errno : 0;
	return r;
}
