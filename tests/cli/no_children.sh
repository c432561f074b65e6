#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# --no-children takes the one process alone.
. "$TESTS/harness/cli.sh"

subject tree_deep
quietly cpx dump $pid -o whole --json
python3 -c 'import json; print(json.load(open("run.out"))["tasks"], "tasks")'
quietly cpx dump $pid -o one --no-children --json
python3 -c 'import json; print(json.load(open("run.out"))["tasks"], "task")'
verdict
ended
exit 0
