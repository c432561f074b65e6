#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Deltas: a tree whose memory changes between dumps comes back from the chain, from a pipe and from the chain
# made flat; what is missing, foreign or in the way is refused.
. "$TESTS/harness/cli.sh"

step() {
	: >state/step$1
	until [ -e state/done$1 ]; do sleep 0.01; done
}

again() {
	rm state/go state/result
}

size() { stat -c %s "$1"; }

subject mem_layers
quietly cpx dump $pid -o base --compress=none
step 1
mkdir deltas
quietly cpx dump $pid -o deltas/1 --parent base
run cpx dump $pid -o base --parent base
run cpx dump $pid -o 2 --parent missing
step 2
quietly cpx dump $pid -o deltas/2 --parent deltas/1 --kill
wait
quietly cpx verify deltas/2
[ $(size deltas/2) -lt $(($(size base) / 4)) ] || echo "THE DELTA IS LARGE"

echo "from the chain"
quietly cpx restore -d deltas/2
verdict
again
echo "made flat"
quietly cpx flatten deltas/2 -o flat
quietly cpx verify flat
run cpx flatten deltas/2 -o base
mv base elsewhere
quietly cpx restore -d flat
verdict
again
echo "the base is elsewhere"
id=$(od -An -tx1 -j16 -N16 elsewhere | tr -d ' ')
others="$id=ID"
run cpx restore -d deltas/2
run cpx restore -d --parent flat deltas/2
quietly cpx restore -d --parent elsewhere deltas/2
verdict
again
echo "from a pipe"
quietly sh -c "cat deltas/2 | $CPX restore -d --parent deltas/1 --parent elsewhere -"
verdict
again
echo "another tree"
rm -rf state
subject canary
run cpx dump $pid -o 3 --parent flat
kill $pid
wait
exit 0
