/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPX_ENGINE_HOOK_H
#define CPX_ENGINE_HOOK_H

#include "base/err.h"

#include <sys/types.h>

/* The user's command, by sh(1), while the tree stands ready: with CPX_ROOT_PID and, of a clone (not 0), CPX_CLONE_ID
 * in its environment. An error if it does not end with 0. */
int hook_run(const char *command, unsigned clone, pid_t root, struct err *err);

#endif
