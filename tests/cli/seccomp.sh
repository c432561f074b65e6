#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Filters under which cpx could not leave safely or ask, that ask somebody else, strict mode; and whoever may not read them.
. "$TESTS/harness/cli.sh"

[ $(id -u) = 0 ] || { echo "needs root and somebody else"; exit 77; }
for what in nomunmap nosigaction listener hiddenldt dispatch; do
	hold $what
	remember
	run cpx dump $pid -o image
	unharmed
	kill $pid
	ended
done

hold strict
others="$(echo $(cat /proc/$pid/task/$pid/children))=CHILD"
remember
run cpx check $pid
unharmed
kill $pid
ended

# Without fork there is no twin.
hold noclone
remember
quietly cpx dump $pid -o image --json
grep freeze_ run.out | replace
unharmed
kill $pid
ended

# What it is not asked is no obstacle; what may not be read is.
chmod 777 .
: >holder.out
setpriv --reuid 12345 --regid 12345 --clear-groups "$BIN/holder" nomknod >holder.out 2>holder.err </dev/null &
pid=$!
until grep -q ready holder.out; do sleep 0.01; done
others="$$=PARENT"
remember
run setpriv --reuid 12345 --regid 12345 --clear-groups cpx check $pid
quietly cpx dump $pid -o image
unharmed
kill $pid
ended
chmod 644 image; chmod 666 holder.out holder.err
run setpriv --reuid 12345 --regid 12345 --clear-groups cpx restore image
exit 0
