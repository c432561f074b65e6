#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Quiet, plain and JSON output; no bar where there is no terminal; info in both forms.
. "$TESTS/harness/cli.sh"

subject canary
run cpx dump $pid -o image -q
quietly cpx dump $pid -o image --json
python3 - <<'EOF'
import json
r = json.load(open("run.out"))
print("\n".join(f"{k}: {type(v).__name__}" for k, v in sorted(r.items())))
for key in "frozen_us", "wall_us", "memory_bytes", "image_bytes":
    assert r[key] > 0, key
assert r["frozen_us"] <= r["wall_us"]
assert (r["tasks"], r["threads"], r["outcome"]) == (1, 1, "done"), r
EOF
grep -c $'\r' run.err
quietly cpx info image --json
python3 -c 'import json; json.load(open("run.out")); print("info --json is JSON")'
quietly cpx info image
grep -q canary run.out && grep -q "$pid" run.out && echo "info names the process"
run cpx verify --json image
run cpx check --json $pid
exit 0
