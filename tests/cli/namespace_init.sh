#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The init of a PID namespace is refused, and runs on with all that is there; a child of it is dumped as ever.
. "$TESTS/harness/cli.sh"

subject canary
$CPX dump $pid --kill -q -o image || exit 1
wait $pid
$CPX restore -d --pid=new image >root || exit 1
pid=$(cat root)
init=$(awk '/^PPid/ { print $2 }' /proc/$pid/status)
others="$init=INIT"
grep -c '^NSpid:.*[[:space:]]1$' /proc/$init/status
run timeout 20 $CPX check $init
run timeout 20 $CPX dump --kill $init -o other
run timeout 20 $CPX dump -q $pid -o other
verdict
gone $pid
exit 0
