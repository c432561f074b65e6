#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A tree from a machine (here: a time namespace) whose clocks are ahead gets a time namespace with offsets.
. "$TESTS/harness/cli.sh"

mkdir state
unshare --time --monotonic 1000000 --boottime 2000000 --fork true 2>/dev/null || {
	echo "no time namespaces here"
	exit 77
}
unshare --time --monotonic 1000000 --boottime 2000000 "$BIN/time_clocks" "$PWD/state" </dev/null >/dev/null 2>&1 &
pid=$!
until [ -e state/ready ]; do sleep 0.01; done
$CPX dump $pid -o image --kill -q
status=$?
if [ $status = 3 ]; then
	echo "refused"
	kill $pid
	exit 0
fi
wait
$CPX restore -d image >new || exit 1
verdict
exit 0
