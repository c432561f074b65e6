/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Those sleeps of sleep_timed whose end the kernel or the program knows at any time. */
#define ONLY_KNOWN_ENDS
#include "sleep_timed.c"
