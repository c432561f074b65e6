#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A restore in the foreground passes signals on and exits with the status of what it restored.
. "$TESTS/harness/cli.sh"

restored() {
	$CPX restore image --pidfile pidfile </dev/null >run.out 2>run.err &
	cpx=$!
	until [ -s pidfile ]; do
		kill -0 $cpx 2>/dev/null || break
		sleep 0.01
	done
}

hold
quietly cpx dump $pid -o image --kill
wait
echo "a signal to cpx reaches the root, whose exit status is 15"
restored
kill -TERM $cpx
wait $cpx
echo "[exit $?]"
rm -f pidfile
echo "a root killed by a signal gives 128 + the signal"
restored
kill -KILL $(cat pidfile)
wait $cpx
echo "[exit $?]"
cat run.out run.err
exit 0
