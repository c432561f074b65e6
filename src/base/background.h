/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Work that others, above all a tree that runs on, should not notice. */
#ifndef CPX_BASE_BACKGROUND_H
#define CPX_BASE_BACKGROUND_H

#include <sys/types.h>

/* What nice(1) adds when it is not told otherwise. */
#define BACKGROUND_NICE 10

/* A thread (0: the calling one) goes behind others as with nice(1), and interrupts nobody when it has something to do.
 * It may be one of a real-time policy. Where that is not allowed all stays as it is. */
void background_thread(pid_t tid);

#endif
