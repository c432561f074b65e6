#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two tasks on one stack, as a cpx that was killed leaves them for a moment: no frame is written over another's.
. "$TESTS/harness/cli.sh"

hold sharedstack
child=$(cat /proc/$pid/task/$pid/children)
others="$(echo $child)=CHILD"
for _ in 1 2 3; do
	run timeout 20 $CPX dump $pid -o image
done
grep TracerPid /proc/$pid/status /proc/$(echo $child)/status | cut -d: -f2-
kill $child
kill $pid
ended
ls | grep -c image
exit 0
