#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# restore --lazy is refused before anything is made where it cannot be done.
. "$TESTS/harness/cli.sh"

subject mem_big
$CPX dump $pid -q --kill -o image || exit 1
wait $pid 2>/dev/null
CPX_DENY=userfaultfd run cpx restore -d --lazy image
run bash -c "cat image | $CPX restore -d --lazy -"
run cpx restore --lazy --copies=2 image
[ $(id -u) = 0 ] || { echo "needs root and somebody else"; exit 77; }

here=$(mktemp -d /tmp/cpx-lazy.XXXXXX)
trap 'rm -rf "$here"' EXIT
chmod 755 $here
cp image $here
chmod 644 $here/image
others="${here##*/}=HERE"
run setpriv --reuid 12345 --regid 12345 --clear-groups cpx restore -d --lazy $here/image
strays
$CPX restore -d --lazy image >new || exit 1
[ $(cat new) = $pid ] || echo "another PID"
verdict
exit 0
