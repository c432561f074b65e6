/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SIGINT, SIGTERM and SIGHUP while other tasks are under our control: the signal sets a flag,
 * system calls that block end with EINTR, and long work asks between its steps whether to go on.
 */
#ifndef CPX_BASE_INTERRUPT_H
#define CPX_BASE_INTERRUPT_H

#include "base/err.h"

#include <signal.h>

#define INTERRUPT_SIGNALS 3

struct interrupt {
	struct sigaction old[INTERRUPT_SIGNALS];
};

/* Catches the signals (those that are ignored stay so) until interrupt_release(). Within another one it
 * knows what that has caught. */
void interrupt_catch(struct interrupt *i);
void interrupt_release(const struct interrupt *i);

/* 0, or -EINTR "interrupted by signal N (name)" when one has come since interrupt_catch(). */
int interrupt_check(struct err *err);

#endif
