#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 240
"""Each system call of a restore is made to fail in turn: it ends in a whole tree or an error with nothing left
behind, and the image stays as it is."""
import os
import random
import sys

import cpx
import procs
from faults import Target, no_process_left
from sandbox import Fail
from syscalls import calls_of, check_strace, fail, faults


def end_restored(text):
    """The tree whose PID a restore has printed."""
    for pid in procs.tree(int(text.split()[0])):
        os.kill(pid, 9)


def image_bytes():
    with open("image", "rb") as f:
        return f.read()


def main():
    check_strace()
    procs.become_subreaper()
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    target = Target("fd_dup")
    cpx.dump(target.pid, "image", "--kill")
    target.process.wait(10)
    no_process_left("dump --kill")
    before = image_bytes()
    count = calls_of("restore", "image", "-d", "--pidfile", "pid")
    end_restored(procs.read("pid"))
    no_process_left("restore")
    for fault in faults(count, rng):
        status, out = fail(fault, "restore", "image", "-d")
        if status == 0:
            end_restored(out)
        no_process_left(f"restore with {fault}")
    if image_bytes() != before:
        raise Fail("the image has changed")


sys.exit(main())
