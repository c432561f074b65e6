#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The plain case: the target runs on, the image is good, nothing but the image appears.
. "$TESTS/harness/cli.sh"

subject canary
remember
quietly cpx dump $pid
sed 's/[0-9.]\+ [KM]iB/SIZE/g; s/[0-9.]\+ ms/TIME/g' run.err
unharmed
ls -l $pid.cpx | cut -c1-10 | replace
ls | grep -v -e look -e run | replace
run cpx verify $pid.cpx
run cpx dump -q $pid
run cpx check $pid
unharmed
verdict
ended
exit 0
