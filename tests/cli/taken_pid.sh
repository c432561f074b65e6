#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A PID that is taken: --pid=same is refused, auto takes a new PID namespace.
. "$TESTS/harness/cli.sh"

subject canary
quietly cpx dump $pid -o image
remember
run cpx restore image --pid=same -d
unharmed
strays $pid
if [ $(id -u) = 0 ]; then
	quietly cpx restore image -d
	new=$(cat run.out)
	[ "$new" != $pid ] && echo "another PID here"
	[ "$(sed -n 's/NSpid:.*\t//p' /proc/$new/status)" = $pid ] && echo "the same PID inside"
	unharmed
	kill -9 $new
fi
verdict
exit 0
