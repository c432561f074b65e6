#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# fanotify groups that cannot be carried: of permission events, and with events that nobody has read.
. "$TESTS/harness/cli.sh"

hold fanpermission fanqueued
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended
exit 0
