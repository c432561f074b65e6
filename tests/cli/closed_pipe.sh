#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Nobody reads the image: an error, and the target runs on.
. "$TESTS/harness/cli.sh"

subject mem_private
remember
$CPX dump $pid -o - 2>run.err | head -c 5000 >head
echo "[exit ${PIPESTATUS[0]}]"
sed 's/task .*: cannot/cannot/' run.err
unharmed
$CPX dump $pid -o - >/dev/full 2>run.err
echo "[exit $?]"
sed 's/task .*: cannot/cannot/' run.err
unharmed
verdict
exit 0
