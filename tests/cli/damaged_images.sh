#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every cut and every damaged byte is noticed by verify; a restore of it creates nothing, or all that is right.
. "$TESTS/harness/cli.sh"

subject canary
quietly cpx dump $pid -o good --kill --compress=none
wait
size=$(stat -c %s good)
cuts=0 damages=0
for i in 0 1 2 3 4 5 6 7 8 9; do
	head -c $((size * i / 10)) good >cut
	$CPX verify -q cut 2>/dev/null && echo "cut to $i/10: NOT NOTICED"
	$CPX restore -d cut </dev/null >restored 2>/dev/null && echo "cut to $i/10: RESTORED"
	cuts=$((cuts + 1))
done
for i in 0 20 40 60 80 100 300 1000 2000 3000 $((size / 2)) $((size - 100)) $((size - 9)) $((size - 1)); do
	cp good damaged
	byte=$(od -An -tu1 -j$i -N1 good)
	printf "$(printf '\\%03o' $((byte ^ 255)))" | dd of=damaged bs=1 seek=$i conv=notrunc status=none
	$CPX verify -q damaged 2>/dev/null
	[ $? = 1 ] || echo "byte $i of $size damaged: NOT NOTICED"
	damages=$((damages + 1))
done
echo "$cuts cuts and $damages damaged bytes tried"
strays
cmp good image 2>/dev/null
run cpx verify good
exit 0
