#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# user: an ordinary user's attempt at a process of root's
. "$TESTS/harness/cli.sh"

run cpx dump 1 -o image
run cpx check 1
ls image* 2>&1
