#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Events that a process outside of the tree shares, and a state of an epoll that cannot be made again.
. "$TESTS/harness/cli.sh"

hold outsider eventfd timerfd epoll signalfd
others="$(sed -n 's/outsider //p' holder.out)=OUTSIDER"
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended

others=
hold fired eventfd timerfd epoll signalfd
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended
ls | grep -c image
exit 0
