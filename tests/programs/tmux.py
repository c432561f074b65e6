#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
# alone: another test would take the number of a pseudo-terminal of the killed
"""A tmux server with two windows, a shell that keeps a variable and one that counts, is dumped at random moments,
killed and restored: the same server answers at its socket, and both shells go on from where they were."""
import os
import random
import shutil
import subprocess
import sys
import time

import cpx
import procs
from programs import ENVIRONMENT
from sandbox import Fail

COUNTER = "i=0; while :; do i=$((i+1)); echo $i >count.part; mv count.part count; sleep 0.02; done"
ROUNDS = 4


class Tmux:
    def __init__(self, directory):
        self.directory = directory
        self.environment = ENVIRONMENT | {"TMUX_TMPDIR": directory, "HOME": directory, "SHELL": "/bin/sh"}
        self.do("new-session", "-d", "-s", "main", "exec sh")
        self.do("new-window", "-d", "-t", "main", "exec sh")
        self.type(0, "kept=$((6 * 7))")
        self.type(1, COUNTER)
        self.pid = int(self.do("display-message", "-p", "#{pid}"))

    def do(self, *args):
        return subprocess.run(["tmux", "-L", "cpx", "-f", "/dev/null", *args], check=True, stdout=subprocess.PIPE,
                              env=self.environment, stdin=subprocess.DEVNULL, timeout=20,
                              cwd=self.directory).stdout.decode().strip()

    def type(self, window, line):
        self.do("send-keys", "-t", f"main:{window}", line, "Enter")

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
        if int(self.do("display-message", "-p", "#{pid}")) != self.pid:
            raise Fail(f"{what}: another server answers")
        if self.do("list-windows", "-F", "#{window_index}").split() != ["0", "1"]:
            raise Fail(f"{what}: the windows are gone")


def main():
    if not shutil.which("tmux"):
        print("tmux is not installed")
        return 77
    procs.become_subreaper()
    directory = os.environ["DIR"]
    image = os.path.join(directory, "image")
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    tmux = Tmux(directory)
    tmux.check_counts_from(0, "at first")
    for i in range(ROUNDS):
        time.sleep(rng.uniform(0, 0.1))
        cpx.dump(tmux.pid, image, "--kill")
        cpx.reap_dead_tree(tmux.pid)
        before = tmux.count()
        cpx.restore_detached(image)
        tmux.check_counts_from(before, f"round-{i}")
        tmux.check_answers(f"round-{i}")
    tmux.do("kill-server")
    return 0


sys.exit(main())
