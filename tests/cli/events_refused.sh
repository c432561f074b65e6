#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Events that a process outside of the tree shares, a state of an epoll that cannot be made again, events in a queue.
. "$TESTS/harness/cli.sh"

hold outsider eventfd timerfd epoll inotify signalfd
others="$(sed -n 's/outsider //p' holder.out)=OUTSIDER"
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended

others="$$=PARENT"
hold fired parent queued eventfd timerfd epoll signalfd inotify
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended
ls | grep -c image
exit 0
