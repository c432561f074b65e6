/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a seccomp filter may answer: a small interpreter of classic BPF. Pure functions. */
#ifndef CPX_TRACEE_FILTER_H
#define CPX_TRACEE_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A system call as far as it is known. Where it is made from never is. */
struct filter_call {
	uint64_t nr;
	uint64_t arg[6];
	unsigned known; /* bit i: arg[i] will be that */
};
#define FILTER_ALL_KNOWN 0x3f

/* The worst answer (in the order of seccomp(2), SECCOMP_RET_KILL_PROCESS being the worst of all)
 * that the filter gives to such a call, whatever is not known; its action, without the data. */
uint32_t filter_worst(const struct sock_filter *insn, size_t n, const struct filter_call *call);

/* Of two answers. */
uint32_t filter_worse(uint32_t a, uint32_t b);

/* Can it answer SECCOMP_RET_USER_NOTIF, or something computed? */
bool filter_can_notify(const struct sock_filter *insn, size_t n);

#endif
