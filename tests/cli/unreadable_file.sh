#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file that the restored program may not open any more is a refusal: nothing is created.
. "$TESTS/harness/cli.sh"

[ $(id -u) = 0 ] || { echo "needs root and somebody else"; exit 77; }
other="setpriv --reuid 12345 --regid 12345 --clear-groups"

here=$(mktemp -d /tmp/cpx-unreadable.XXXXXX)
trap 'rm -rf "$here"' EXIT
chmod 755 $here
touch $here/secret $here/image
chown 12345 $here/secret $here/image $here
$other sleep 1000 3<>$here/secret 2>/dev/null >/dev/null </dev/null &
pid=$!
until [ "$(cat /proc/$pid/comm)" = sleep ]; do sleep 0.01; done
others="${here##*/}=HERE"
run $other cpx dump $pid -q --kill -o $here/image
kill -9 $pid # if it is still there
wait $pid 2>/dev/null
chmod 400 $here/secret
run $other cpx restore -d $here/image
exit 0
