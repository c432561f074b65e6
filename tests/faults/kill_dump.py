#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 300
"""kill -9 of cpx at 300 random moments of dumps of a busy multi-threaded tree, of a service whose seccomp
filters kill for most that it does not do itself, and of memory whose marks are off for an instant: 300 survivals, nothing changed.

CPX_KILLS is the number, CPX_SEED makes the moments the same again."""
import os
import random
import subprocess
import sys
import time

import cpx
import procs
from faults import Target

KILLS = int(os.environ.get("CPX_KILLS", "300"))


def whole_dump(pid, image):
    """Seconds that an undisturbed one takes."""
    start = time.monotonic()
    cpx.dump(pid, image)
    return time.monotonic() - start


def kill_after(pid, image, delay):
    """Whether it was killed before its end."""
    p = subprocess.Popen([cpx.path(), "dump", str(pid), "-q", "-o", image], stdin=subprocess.DEVNULL)
    end = time.perf_counter() + delay
    while time.perf_counter() < end:
        pass
    p.kill()
    return p.wait() < 0


def attack(name, kills, rng):
    target = Target(name)
    image = os.path.join(target.directory, "image")
    seconds = max(whole_dump(target.pid, image) for _ in range(3))
    killed = 0
    for i in range(kills):
        delay = rng.uniform(0, seconds * 1.05)
        killed += kill_after(target.pid, image, delay)
        target.check_unharmed(f"kill {i} after {delay * 1000:.3f} of {seconds * 1000:.1f} ms")
    cpx.dump(target.pid, image)
    cpx.run("verify", image)
    target.check_unharmed("a dump after all the kills")
    target.finish()
    print(f"{name}: {kills} survivals, {killed} dumps killed before their end")


def main():
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    if os.geteuid() == 0:
        attack("seccomp_service", KILLS // 3, rng)
    attack("mem_unforked", KILLS // 6, rng)
    attack("busy", KILLS - KILLS // 3 - KILLS // 6, rng)


sys.exit(main())
