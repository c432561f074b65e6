/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns the flag that a signal asked us to stop: sigaction(2). */
#include "base/interrupt.h"

#include <errno.h>
#include <string.h>

static const int interrupt_signal[INTERRUPT_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

static volatile sig_atomic_t interrupted_by;

static void note_signal(int signo)
{
	interrupted_by = signo;
}

void interrupt_catch(struct interrupt *i)
{
	struct sigaction sa = {.sa_handler = note_signal}; /* no SA_RESTART: waits shall end */
	bool is_nested = false;

	for (size_t n = 0; n < INTERRUPT_SIGNALS; n++) {
		sigaction(interrupt_signal[n], NULL, &i->old[n]);
		is_nested |= i->old[n].sa_handler == note_signal;
	}
	if (!is_nested)
		interrupted_by = 0;
	for (size_t n = 0; n < INTERRUPT_SIGNALS; n++) {
		if (i->old[n].sa_handler != SIG_IGN)
			sigaction(interrupt_signal[n], &sa, NULL);
	}
}

void interrupt_release(const struct interrupt *i)
{
	for (size_t n = 0; n < INTERRUPT_SIGNALS; n++)
		sigaction(interrupt_signal[n], &i->old[n], NULL);
}

int interrupt_check(struct err *err)
{
	int signo = interrupted_by;

	if (!signo)
		return 0;
	return err_set(err, -EINTR, "interrupted by signal %d (%s)", signo, strsignal(signo));
}
