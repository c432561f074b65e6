/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPX_RES_TIMERS_H
#define CPX_RES_TIMERS_H

#include "res/res.h"

/* Does the timer of this id queue its pending signal again by itself when it is started? Then the
 * recorded signal must not be queued. */
bool timers_queue_signal(const Cpx__Task *task, int id);

#endif
