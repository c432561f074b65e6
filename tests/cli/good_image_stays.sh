#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A failed dump leaves the image that is there as it was, and no other file.
. "$TESTS/harness/cli.sh"

echo "precious" >image
hold tcp
quietly cpx dump $pid -o image
cat image
quietly cpx dump $pid -o no/such/directory/image
replace <run.err
kill $pid
wait
quietly cpx dump $pid -o image
cat image
ls | grep -v -e run -e holder | replace
exit 0
