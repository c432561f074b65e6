#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""Pre-copy, again and again, of a target that does to its memory whatever may be done, at random, and keeps books of it: it
goes on unharmed, and each time what is restored agrees with the books.

CPX_DUMPS is the number, CPX_SEED makes what the target does the same again (but not when)."""
import os
import random
import subprocess
import sys

import cpx
import precopy
import procs
from sandbox import Fail

DUMPS = int(os.environ.get("CPX_DUMPS", "3"))


def start(seed):
    os.mkdir("state")
    null = subprocess.DEVNULL
    p = subprocess.Popen([os.path.join(os.environ["BIN"], "mutating"), os.path.abspath("state"), str(seed)], stdin=null,
                         stdout=null, stderr=null, cwd="state", start_new_session=True)
    if not procs.wait_until(lambda: os.path.exists("state/ready"), 20):
        raise Fail("the target does not get ready")
    return p


def check(what):
    if os.path.exists("state/result"):
        raise Fail(f"{what}: the target: {procs.read('state/result')}")


def dump(pid, what, *options):
    try:
        return cpx.dump(pid, "image", *options)["freeze_mode"]
    finally:
        check(what)  # what it says comes before what is said of it


def dump_twice(pid, rng, what):
    """It goes on, and then is taken as it is."""
    modes = set()
    for kill in ([], ["--kill"]):
        rounds = rng.choice(["--precopy=1", "--precopy=2", "--precopy=4"])
        modes.add(dump(pid, f"{what}, {rounds}", rounds, rng.choice(["--compress=none", "--compress=lz4"]), *kill))
        if not kill:
            precopy.check_unwatched(pid)
    return modes


def main():
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    p = start(seed)
    pid, modes = p.pid, set()
    for i in range(DUMPS):
        modes |= dump_twice(pid, rng, f"dump {i}")
        if p:
            p.wait()
        cpx.reap_dead_tree(pid)
        p, pid = None, cpx.restore_detached("image")
        check(f"restore {i}")
    if "precopy" not in modes:
        raise Fail(f"no pre-copy, only {modes}")
    precopy.finish()
    cpx.reap_dead_tree(pid)


if __name__ == "__main__":
    sys.exit(main())
