#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Timers that were set to points of clocks which are ahead of those here, dumped and restored twice.
. "$TESTS/harness/cli.sh"

mkdir state
unshare --time --monotonic 1000000 --boottime 2000000 --fork true 2>/dev/null || {
	echo "no time namespaces here"
	exit 77
}
unshare --time --monotonic 1000000 --boottime 2000000 "$BIN/fd_timerfd" "$PWD/state" </dev/null >/dev/null 2>&1 &
pid=$!
until [ -e state/ready ]; do sleep 0.01; done
$CPX dump $pid -o image --kill -q || exit 1
wait
new=$($CPX restore -d image) || exit 1
$CPX dump $new -o image --kill -q || exit 1
new=$($CPX restore -d image) || exit 1
verdict
exit 0
