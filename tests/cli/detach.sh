#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# restore -d prints the PID of the new root and leaves; --pidfile has the same number.
. "$TESTS/harness/cli.sh"

subject canary
old=$pid
others="$old=OLD"
quietly cpx dump $pid -o image --kill
wait
quietly cpx restore -d image --pidfile pidfile
new=$(cat run.out)
cmp run.out pidfile && echo "one PID on standard output and in the file"
[ "$new" = "$old" ] && echo "the PID is the old one"
cat run.err
verdict
gone $new
quietly cpx restore -d image --json
python3 -c 'import json; r = json.load(open("run.out")); print(sorted(r), r["pid"] > 0, r["new_pid_namespace"])'
exit 0
