#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""kill -9 of cpx at 12 random moments of a pre-copy, of a target that writes to its memory all the time: it notices nothing,
nothing is left in it, and nothing watches it.

CPX_KILLS is the number, CPX_SEED makes the moments the same again."""
import os
import random
import subprocess
import sys
import time

import cpx
import procs
from faults import Target
from sandbox import Fail

KILLS = int(os.environ.get("CPX_KILLS", "12"))


def kill_after(pid, image, delay):
    """Whether it was killed before its end."""
    p = subprocess.Popen([cpx.path(), "dump", str(pid), "-q", "--precopy=3", "-o", image], stdin=subprocess.DEVNULL)
    time.sleep(delay)
    p.kill()
    return p.wait() < 0


def main():
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    target = Target("changing")
    image = os.path.join(target.directory, "image")
    start = time.monotonic()
    if cpx.dump(target.pid, image, "--precopy=3")["freeze_mode"] != "precopy":
        raise Fail("no pre-copy")
    seconds = time.monotonic() - start
    killed = 0
    for i in range(KILLS):
        delay = rng.uniform(0, seconds * 1.05)
        killed += kill_after(target.pid, image, delay)
        target.check_unharmed(f"kill {i} after {delay * 1000:.3f} of {seconds * 1000:.1f} ms")
        if not procs.wait_until(lambda: not procs.is_watched(target.pid), 5):
            raise Fail(f"kill {i} after {delay * 1000:.3f} ms: the target is still watched")
    cpx.dump(target.pid, image, "--precopy=3")
    cpx.run("verify", image)
    target.finish()
    print(f"{KILLS} survivals, {killed} dumps killed before their end")


sys.exit(main())
