#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A task that waits for its vfork child cannot be stopped: an error that says so, soon, and nothing has happened.
. "$TESTS/harness/cli.sh"

hold vfork
child=$(cat /proc/$pid/task/$pid/children)
others="$(echo $child)=CHILD"
run timeout 20 $CPX dump $pid -o image
grep TracerPid /proc/$pid/status /proc/$(echo $child)/status | cut -d: -f2-
kill $child
kill $pid
ended
ls | grep -c image
exit 0
