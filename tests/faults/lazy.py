#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""restore --lazy under a tree that drops, unmaps, moves and forks what is still missing, and compares every page;
while the processes that fill it are killed at random moments; and while the image cannot be read.

CPX_LAZY_ROUNDS is the number of rounds of each, CPX_SEED makes the moments the same again."""
import os
import random
import signal
import subprocess
import sys
import time

import cpx
import procs
from sandbox import Fail, Skip

ROUNDS = int(os.environ.get("CPX_LAZY_ROUNDS", "2"))
MIB, OPERATIONS = 24, 250


class Target:
    """lazy_busy: ends as soon as it has found that all is well, or not."""

    def __init__(self, directory):
        self.state = os.path.join(directory, "state")
        self.image = os.path.join(directory, "image")
        self.log = os.path.join(directory, "restore.log")
        self.start, self.result = (os.path.join(self.state, n) for n in ("start", "result"))
        os.mkdir(self.state)
        null = subprocess.DEVNULL
        p = subprocess.Popen([os.path.join(os.environ["BIN"], "lazy_busy"), self.state, str(MIB), str(OPERATIONS)],
                             stdin=null, stdout=null, stderr=null, start_new_session=True)
        if not procs.wait_until(lambda: os.path.exists(os.path.join(self.state, "ready")), 20):
            raise Fail("the target does not get ready")
        cpx.dump(p.pid, self.image, "--kill", "--compress=zstd")
        p.wait()
        with open(self.start, "w"):
            pass

    def restore(self, *options):
        """Its PID; what the server has to say goes to the log."""
        if os.path.exists(self.result):
            os.unlink(self.result)
        with open(self.log, "w") as log:
            p = subprocess.run([cpx.path(), "restore", "-d", "--lazy", *options, self.image], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=log, timeout=cpx.TIMEOUT)
        if p.returncode:
            raise Fail(f"restore --lazy: exit {p.returncode}: {procs.read(self.log)}")
        return int(p.stdout)

    def verdict(self, what):
        if not procs.wait_until(lambda: os.path.exists(self.result), 30):
            raise Fail(f"{what}: no result; {procs.read(self.log)} {tasks()}")
        text = procs.read(self.result)
        if text != "pass":
            raise Fail(f"{what}: {text}; {procs.read(self.log)}")
        if not procs.wait_until(lambda: not tasks(), 10):
            raise Fail(f"{what}: left behind: {tasks()}")


def tasks():
    procs.reap()
    return {p: f"{procs.read(f'/proc/{p}/comm').strip()} {procs.state(p)}" for p in procs.tree(os.getpid())[1:]}


def fillers():
    """The server and its guard."""
    return [p for p, name in tasks().items() if name.startswith("cpx-lazy") and not name.endswith(" Z")]


def undisturbed(target):
    for options in ([], ["--pid=new"]) * (ROUNDS // 2):
        target.restore(*options)
        target.verdict(f"a tree that does all at once, {options}")


def killed(target, rng):
    """One of the two at a time: the other one goes on, and makes a new one."""
    kills = 0
    for _ in range(ROUNDS):
        target.restore()
        while True:
            found = fillers()
            if not found or os.path.exists(target.result):
                break
            if len(found) == 2:
                victim = rng.choice(found)
                os.kill(victim, signal.SIGKILL)
                kills += 1
                procs.wait_until(lambda: victim not in fillers(), 5)
            time.sleep(rng.uniform(0, 0.004))
        target.verdict(f"a tree whose memory's server was killed, {kills} kills")
    if not kills:
        raise Fail("nobody was killed")
    return kills


def is_stopped(pid):
    return all(procs.state(p) in "TZ" for p in procs.tree(pid))


def damage(target, whole):
    """A byte in the last third, which is memory."""
    with open(target.image, "r+b") as f:
        f.seek(len(whole) * 2 // 3)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0xff]))


def repair(target, whole):
    with open(target.image, "r+b") as f:
        f.write(whole)


def unreadable_image(target):
    with open(target.image, "rb") as f:
        whole = f.read()
    damage(target, whole)
    pid = target.restore()
    await_message(target, pid, "wrong checksum")
    os.truncate(target.image, len(whole) // 3)
    before = reads()
    if not procs.wait_until(lambda: reads() > before, 10):
        raise Fail("it is not tried again")
    if len(fillers()) != 2 or not is_stopped(pid):
        raise Fail(f"a shorter image: {tasks()}")
    repair(target, whole)
    target.verdict("an image that could be read again")
    damage(target, whole)
    pid = target.restore()
    await_message(target, pid, "wrong checksum")
    for p in procs.tree(pid):
        os.kill(p, signal.SIGKILL)
    if not procs.wait_until(lambda: not tasks(), 10):
        raise Fail(f"the tree was killed, and left behind are: {tasks()}")
    repair(target, whole)


def reads():
    """System calls of the server and its guard that read."""
    return sum(int(line.split()[1]) for p in fillers() for line in procs.read(f"/proc/{p}/io").splitlines()
               if line.startswith("syscr"))


def await_message(target, pid, why):
    if not procs.wait_until(lambda: "stopped" in procs.read(target.log), 10):
        raise Fail(f"no message: {procs.read(target.log)!r} {tasks()}")
    if not procs.wait_until(lambda: is_stopped(pid), 5):
        raise Fail(f"it is not stopped: {tasks()}")
    said = procs.read(target.log)
    for word in (target.image, f"task {pid} (lazy_busy)", f"kill -9 {pid}", why):
        if word not in said:
            raise Fail(f"{word!r} is not in {said!r}")


def main():
    if os.geteuid():
        raise Skip("only root may restore lazily")
    procs.become_subreaper()
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    target = Target(os.environ["DIR"])
    undisturbed(target)
    kills = killed(target, random.Random(seed))
    unreadable_image(target)
    print(f"{ROUNDS} rounds of each, {kills} kills")


sys.exit(main())
