#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 240
"""Each system call of a dump is made to fail in turn: it ends in a good image or an error, leaves no partial
file, and the target is unharmed."""
import os
import random
import sys

import cpx
import procs
from faults import Target
from sandbox import Fail
from syscalls import calls_of, check_strace, fail, faults


def main():
    check_strace()
    procs.become_subreaper()
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    target = Target("busy")
    count = calls_of("dump", target.pid, "-o", "image")
    files = set(os.listdir())
    for fault in faults(count, rng):
        status, _ = fail(fault, "dump", target.pid, "-o", "image", "-q")
        target.check_unharmed(f"dump with {fault}")
        if status == 0:
            cpx.run("verify", "image")
        if set(os.listdir()) != files:
            raise Fail(f"{fault}: files are left: {set(os.listdir()) - files}")
    target.finish()


sys.exit(main())
