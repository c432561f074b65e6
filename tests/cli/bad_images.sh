#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images that are missing, foreign, empty, cut off, damaged or newer: one line, exit status 1, nothing created.
. "$TESTS/harness/cli.sh"

try() {
	for c in "restore -d" verify info; do
		run cpx $c "$1"
		[ $(wc -l <run.err) = 1 ] || echo "NOT ONE LINE"
	done
	strays
}

subject canary
quietly cpx dump $pid -o good --kill
wait
pid=
try missing
try .
: >empty
try empty
cp /bin/true foreign
try foreign
head -c 1000000 /dev/zero >zeros
try zeros
cp good newer
printf '\377\377\377\177' | dd of=newer bs=1 seek=8 conv=notrunc status=none
try newer
exit 0
