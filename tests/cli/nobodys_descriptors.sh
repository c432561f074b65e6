#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cpx may be started with descriptors closed or open that are not its own; they do not reach the restored.
. "$TESTS/harness/cli.sh"

subject canary
$CPX dump $pid -o image -q <&- >&- 2>&-
echo "[exit $?]"
kill -9 $pid
wait $pid 2>/dev/null
exec 7<"$0" 8>extra
new=$($CPX restore -d image <&-)
ls /proc/$new/fd | tr '\n' ' '
echo
verdict
exit 0
