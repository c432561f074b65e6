#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 200
"""kill -9 of cpx at 200 random moments of that stage of a dump in which data in pseudo-terminals are taken and put back: in
pairs of each kind, which are looked at in the end, and in one that two tasks talk through all the time.

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

KILLS = int(os.environ.get("CPX_KILLS", "200"))
BEFORE, STAGE = "read descriptors: ", "take and put back: "


def begin(pid, image):
    """A dump that has come to the stage; False: it has ended before."""
    p = subprocess.Popen([cpx.path(), "dump", str(pid), "-vv", "-o", image], stdin=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    return p, any(BEFORE in line for line in p.stderr)


def seconds_of_stage(pid, image):
    p, _ = begin(pid, image)
    text = p.stderr.read()
    if p.wait() != 0 or STAGE not in text:
        raise Fail(f"a dump that was not killed: {text}")
    return int(text.split(STAGE)[1].split()[0]) / 1e6


def kill_after(pid, image, delay):
    """Whether it was killed in the stage."""
    p, is_there = begin(pid, image)
    end = time.perf_counter() + delay
    while time.perf_counter() < end:
        pass
    p.kill()
    text = p.stderr.read()
    p.stderr.close()
    return p.wait() < 0 and is_there and STAGE not in text


def attack(name, kills, rng):
    target = Target(name)
    image = os.path.join(target.directory, "image")
    seconds = sorted(seconds_of_stage(target.pid, image) for _ in range(5))[2]
    killed = 0
    for i in range(kills):
        delay = rng.uniform(0, 2) * seconds
        killed += kill_after(target.pid, image, delay)
        target.check_unharmed(f"kill {i} after {delay * 1000:.3f} of {seconds * 1000:.1f} ms")
    cpx.dump(target.pid, image)
    target.check_unharmed("a dump after all the kills")
    target.finish()
    print(f"{name}: {kills} survivals, {killed} dumps killed in the stage")
    if killed < kills // 10:
        raise Fail(f"{name}: only {killed} of {kills} kills came in time")


def main():
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    attack("fd_pty_queued", KILLS // 2, rng)
    attack("fd_pty_traffic", KILLS - KILLS // 2, rng)


if __name__ == "__main__":
    sys.exit(main())
