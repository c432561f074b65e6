/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a thread has been asleep in a call with a relative timeout.
 */
#include "tracee/tracee_priv.h"

void asleep_before(struct tracee *t, struct tracee_thread *th)
{
}

int asleep_after(struct tracee *t, struct tracee_thread *th, struct err *err)
{
	return 0;
}
