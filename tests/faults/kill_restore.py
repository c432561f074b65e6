#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""kill -9 of cpx at random moments of restores: nothing half-made is left, and the image stays good."""
import hashlib
import os
import random
import subprocess
import sys
import time

import cpx
import procs
from faults import Target, no_process_left
from sandbox import Fail

KILLS = int(os.environ.get("CPX_KILLS", "60"))


def digest(image):
    with open(image, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def restore_and_kill(image, delay):
    """Kills a restore in the foreground; whatever it has made must end with it or be whole."""
    p = subprocess.Popen([cpx.path(), "restore", image], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    p.kill()
    p.wait()


def end_whole_tree(root_name):
    """A restore that was through before the kill leaves a whole tree: its busy root runs."""
    procs.reap()
    for pid in procs.children(os.getpid()):
        if procs.read(f"/proc/{pid}/comm").strip() == root_name:
            time.sleep(0.02)
            if not procs.is_alive(pid):
                continue
            if procs.state(pid) in "Tt":
                raise Fail("a stopped task is left")
            for p in procs.tree(pid):
                os.kill(p, 9)
            return True
    return False


def main():
    procs.become_subreaper()
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    target = Target()
    image = os.path.join(target.directory, "image")
    cpx.dump(target.pid, image, "--kill")
    target.process.wait(10)
    no_process_left("dump --kill")
    before = digest(image)
    start = time.monotonic()
    pid = cpx.restore_detached(image)
    seconds = time.monotonic() - start
    for p in procs.tree(pid):
        os.kill(p, 9)
    no_process_left("kill of the restored tree")
    whole = 0
    for i in range(KILLS):
        delay = rng.uniform(0, seconds * 1.1)
        restore_and_kill(image, delay)
        whole += end_whole_tree("busy")
        no_process_left(f"kill {i} after {delay * 1000:.2f} of {seconds * 1000:.1f} ms")
    if digest(image) != before:
        raise Fail("the image has changed")
    print(f"{KILLS} kills, {whole} of them after the tree was whole")


sys.exit(main())
