#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A target that has a tracer already: an error or refusal that says so; the tracer keeps it.
. "$TESTS/harness/cli.sh"

command -v strace >/dev/null || { echo "strace is not installed"; exit 77; }
subject canary
strace -qq -o /dev/null -p $pid 2>/dev/null &
tracer=$!
until grep -q "^TracerPid:.$tracer$" /proc/$pid/status; do
	kill -0 $tracer 2>/dev/null || { echo "strace cannot trace here"; exit 77; }
	sleep 0.01
done
others="$tracer=TRACER"
run cpx dump $pid -o image
run cpx check $pid
grep TracerPid /proc/$pid/status | replace
kill $tracer
wait $tracer
verdict
ended
exit 0
