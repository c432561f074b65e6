#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""kill -9 of cpx at 8 random moments while it makes one image after the other of a target that writes to its memory all
the time: the target notices nothing, nothing is left in it, nothing watches it, and the images so far are good.

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

KILLS = int(os.environ.get("CPX_KILLS", "8"))
EVERY = ["--every=0.02", "-q"]


def kill_after(pid, image, delay):
    p = subprocess.Popen([cpx.path(), "dump", str(pid), *EVERY, "-o", image], stdin=subprocess.DEVNULL)
    time.sleep(delay)
    p.kill()
    if p.wait() >= 0:
        raise Fail("cpx dump --every has ended by itself")


def verify_all(image):
    """Number of images; they are as good as if cpx had ended."""
    n = 0
    while os.path.exists(f"{image}.{n}" if n else image):
        n += 1
    if n:
        cpx.run("verify", f"{image}.{n - 1}" if n > 1 else image)
    return n


def main():
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    target = Target("changing")
    image = os.path.join(target.directory, "image")
    start = time.monotonic()
    cpx.run("dump", target.pid, "-o", image, *EVERY, "--count=3")
    seconds = time.monotonic() - start
    images = 0
    for i in range(KILLS):
        delay = rng.uniform(0, seconds * 1.5)
        mine = f"{image}.of{i}"
        kill_after(target.pid, mine, delay)
        target.check_unharmed(f"kill {i} after {delay * 1000:.3f} ms")
        if not procs.wait_until(lambda: not procs.is_watched(target.pid), 5):
            raise Fail(f"kill {i} after {delay * 1000:.3f} ms: the target is still watched")
        images += verify_all(mine)
    target.finish()
    print(f"{KILLS} survivals, {images} images")


sys.exit(main())
