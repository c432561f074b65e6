#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# --stop leaves the target stopped after the dump, --kill ends it; otherwise it runs.
. "$TESTS/harness/cli.sh"

subject canary
quietly cpx dump $pid -o image --stop
grep State /proc/$pid/status
kill -CONT $pid
quietly cpx dump $pid -o image --kill
ended
run cpx verify image
exit 0
