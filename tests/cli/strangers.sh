#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An ordinary user's attempt at a process of root's.
. "$TESTS/harness/cli.sh"

[ $(id -u) = 0 ] || { echo "needs root and somebody else"; exit 77; }
hold
remember
run setpriv --reuid 12345 --regid 12345 --clear-groups cpx dump $pid -o /tmp/no-such-image.cpx
run setpriv --reuid 12345 --regid 12345 --clear-groups cpx check $pid
unharmed
kill $pid
ended
exit 0
