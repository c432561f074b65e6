#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What cannot be carried yet is refused by name, all of it at once, before anything happens to the target.
. "$TESTS/harness/cli.sh"

hold tcp udp netlink hasty
remember
run cpx check $pid
run cpx dump $pid -o image
unharmed
run cpx check $pid --json
ls | grep -c image
kill $pid
ended
exit 0
