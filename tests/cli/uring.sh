#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# io_urings that cannot be carried: requests in flight, which end as they would have, and what the kernel does not show.
. "$TESTS/harness/cli.sh"

subject uring_busy
[ ! -e state/result ] || exit 77
remember
run cpx check $pid
run cpx dump $pid -o image
unharmed
verdict
ended

hold restricted provided severalevents lostfile unmapped
remember
run cpx dump $pid -o image
unharmed
ls | grep -c image
kill $pid
ended
exit 0
