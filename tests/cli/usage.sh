#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Wrong command lines: one line that says what is wrong, exit status 2, nothing done.
. "$TESTS/harness/cli.sh"

run cpx
run cpx frobnicate
run cpx dump
run cpx dump nonsense
run cpx dump -- -5
run cpx dump 99999999999
run cpx dump 1 2
run cpx dump 1 --kill --stop
run cpx dump 1 --compress=rar
run cpx dump 1 --compress=zstd:99
run cpx dump 1 --ghost-limit=many
run cpx dump 1 --limit-rate=0
run cpx dump 1 --external-pipe=stdout
run cpx dump 1 --external-pipe=file:relative
run cpx dump 1 --external-pipe=pipe:[x]=null
run cpx restore x --external-pipe=inherit:-1
run cpx dump 1 -j 0
run cpx dump 1 --every=0
run cpx dump 1 --every=1d
run cpx dump 1 --every=1.5m --kill
run cpx dump 1 --every=1 --precopy
run cpx dump 1 --every=1 -o -
run cpx dump 1 --every=1 --count=0
run cpx dump 1 --count=2
run cpx dump 1 -o
run cpx dump 1 -o - --json
run cpx dump --frob 1
run cpx restore
run cpx restore x --pid=other
run cpx check
run cpx check x
run cpx info
run cpx verify
run cpx verify --json=1 x
ls | grep -v run
exit 0
