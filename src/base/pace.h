/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* So many bytes a second and no more, on average since the start. */
#ifndef CPX_BASE_PACE_H
#define CPX_BASE_PACE_H

#include "base/err.h"

#include <stdint.h>

struct pace {
	uint64_t rate; /* bytes a second; 0: no limit */
	uint64_t start_ns;
};

void pace_start(struct pace *p, uint64_t rate);
/* Waits until so many bytes in all are due. -EINTR when a signal has come that interrupt_catch() catches. */
int pace_wait(const struct pace *p, uint64_t bytes, struct err *err);

#endif
