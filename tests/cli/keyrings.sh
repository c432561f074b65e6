#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A key that ends with its process cannot be carried.
. "$TESTS/harness/cli.sh"

hold keys
remember
run cpx check $pid
unharmed
kill $pid
ended
exit 0
