#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Rules of Landlock cannot be read: a task under them is refused, whoever asks, though no file tells of them.
. "$TESTS/harness/cli.sh"

hold landlock
remember
run cpx check $pid
run cpx dump $pid -o image
unharmed
kill $pid
ended
strays
exit 0
