#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Asynchronous I/O of which requests may be in flight: polls, and what a child inherits of a context.
. "$TESTS/harness/cli.sh"

hold aiopoll
others=$(sed -n 's,^\([0-9a-f]*\)-.*/\[aio\].*,0x\1=CONTEXT,p' /proc/$pid/maps)
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended

hold aiochild
child=$(cat /proc/$pid/task/$pid/children)
others="${child% }=CHILD $(sed -n 's,^\([0-9a-f]*\)-.*/\[aio\].*,0x\1=CONTEXT,p' /proc/$pid/maps)"
remember
run cpx dump $pid -o image
unharmed
kill $pid
ended
exit 0
