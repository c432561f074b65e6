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


def names():
    procs.reap()
    return {p: procs.read(f"/proc/{p}/comm").strip() for p in procs.tree(os.getpid())[1:]}


def end_whole_tree(what):
    """A restore that was through before the kill leaves a whole tree, and nothing that is still cpx's."""
    if not procs.wait_until(lambda: "cpx" not in names().values(), 5):
        raise Fail(f"{what}: half-made tasks are left: {names()}")
    whole = list(names())
    if any(procs.state(p) in ("T", "t") for p in whole):
        raise Fail(f"{what}: a stopped task is left: {names()}")
    for p in whole:
        os.kill(p, 9)
    return bool(whole)


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
        what = f"kill {i} after {delay * 1000:.2f} of {seconds * 1000:.1f} ms"
        whole += end_whole_tree(what)
        no_process_left(what)
    if digest(image) != before:
        raise Fail("the image has changed")
    print(f"{KILLS} kills, {whole} of them after the tree was whole")


sys.exit(main())
