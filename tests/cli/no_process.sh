#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Targets that are not there, or that nobody can dump.
. "$TESTS/harness/cli.sh"

sleep 0 & gone_pid=$!
wait
others="$gone_pid=GONE $$=SELF"
run cpx dump $gone_pid -o image
run cpx check $gone_pid
run cpx dump 2 -o image
ls | grep -c image
exit 0
