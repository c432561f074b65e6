# SPDX-License-Identifier: LGPL-2.1-or-later
"""A terminal multiplexer with two windows, a shell that keeps a variable and one that counts, is dumped at random
moments, killed and restored: the same server answers, and both shells go on from where they were. What was typed ahead while a job runs is
there when it ends."""
import os
import random
import shutil
import signal
import subprocess
import time

import cpx
import procs
from programs import ENVIRONMENT
from sandbox import Fail

COUNTER = "i=0; while :; do i=$((i+1)); echo $i >count.part; mv count.part count; sleep 0.02; done"
ROUNDS = 4


class Multiplexer:
    name = ""

    def __init__(self, directory):
        self.directory = directory
        self.environment = ENVIRONMENT | {"HOME": directory, "SHELL": "/bin/sh"}

    def start(self):
        """The server with a shell in each of its windows 0 and 1; sets pid."""
        raise NotImplementedError

    def type(self, window, line):
        raise NotImplementedError

    def windows(self):
        """Their numbers, as the server says them: "0 1"."""
        raise NotImplementedError

    def end(self):
        raise NotImplementedError

    def run(self, *args):
        return subprocess.run(args, check=True, stdout=subprocess.PIPE, env=self.environment, timeout=20,
                              stdin=subprocess.DEVNULL, cwd=self.directory).stdout.decode().strip()

    def count(self):
        return int(procs.read(os.path.join(self.directory, "count")) or 0)

    def check_counts_from(self, before, what):
        if not procs.wait_until(lambda: self.count() != before, 10):
            raise Fail(f"{what}: the counter stands at {before}")
        if not before < self.count() < before + 100:
            raise Fail(f"{what}: the counter went from {before} to {self.count()}")

    def check_answers(self, what):
        said = os.path.join(self.directory, "said")
        self.type(0, f"echo {what} $kept >said.part; mv said.part said")
        if not procs.wait_until(lambda: procs.read(said) == f"{what} 42\n", 10):
            raise Fail(f"{what}: the shell says {procs.read(said)!r}")
        if self.windows() != "0 1":
            raise Fail(f"{what}: the windows are {self.windows()!r}")

    def find_job(self, name):
        return [p for p in procs.tree(self.pid) if procs.read(f"/proc/{p}/comm").strip() == name]

    def type_ahead(self, image):
        said = os.path.join(self.directory, "ahead")
        self.type(0, "sleep 1000")
        if not procs.wait_until(lambda: self.find_job("sleep"), 10):
            raise Fail("no job runs")
        self.type(0, "echo ahead $kept >ahead.part; mv ahead.part ahead")
        for _ in range(5):
            cpx.dump(self.pid, image)
        cpx.dump(self.pid, image, "--kill")
        cpx.reap_dead_tree(self.pid)
        cpx.restore_detached(image)
        if os.path.exists(said):
            raise Fail("the shell did not wait for its job")
        os.kill(self.find_job("sleep")[0], signal.SIGTERM)
        if not procs.wait_until(lambda: procs.read(said) == "ahead 42\n", 10):
            raise Fail(f"what was typed ahead is lost: {procs.read(said)!r}")


def test(kind):
    if not shutil.which(kind.name, path=ENVIRONMENT["PATH"]):
        print(f"{kind.name} is not installed")
        return 77
    procs.become_subreaper()
    image = os.path.join(os.environ["DIR"], "image")
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    m = kind(os.environ["DIR"])
    m.start()
    m.type(0, "kept=$((6 * 7))")
    m.type(1, COUNTER)
    m.check_counts_from(0, "at first")
    for i in range(ROUNDS):
        time.sleep(rng.uniform(0, 0.1))
        cpx.dump(m.pid, image, "--kill")
        cpx.reap_dead_tree(m.pid)
        before = m.count()
        cpx.restore_detached(image)
        m.check_counts_from(before, f"round-{i}")
        m.check_answers(f"round-{i}")
    m.type_ahead(image)
    m.end()
    return 0
