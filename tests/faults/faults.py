# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of faults share: a target that looks after itself, and the question whether it was harmed."""
import os
import subprocess

import procs
from sandbox import Fail

# Of a tree that works these change by themselves.
RESTLESS = ("SigPnd", "ShdPnd", "pos")


class Target:
    """A subject under attack."""

    def __init__(self, name="busy", directory=None):
        self.directory = directory or os.environ["DIR"]
        self.state = os.path.join(self.directory, f"state.{name}")
        os.mkdir(self.state)
        null = subprocess.DEVNULL
        self.process = subprocess.Popen([os.path.join(os.environ["BIN"], name), self.state], stdin=null,
                                        stdout=null, stderr=null, cwd=self.state, start_new_session=True)
        self.pid = self.process.pid
        if not procs.wait_until(lambda: self._has("ready") or self._has("result"), 20):
            raise Fail(f"{name} does not get ready")
        self.before = procs.stable_snapshot(self.pid, ignore=RESTLESS)

    def _has(self, name):
        return os.path.exists(os.path.join(self.state, name))

    def result(self):
        return procs.read(os.path.join(self.state, "result")).strip()

    def check_unharmed(self, what, patience=5):
        """It lives, has noticed nothing, and looks the same from outside; and there is nothing else."""
        if not procs.wait_until(self._is_same, patience):
            self._complain(what)

    def _differences(self):
        return procs.differences(self.before, procs.snapshot(self.pid), ignore=RESTLESS)

    def _strays(self):
        procs.reap()
        own = set(procs.tree(self.pid))
        return [p for p in procs.tree(os.getpid())[1:] if p not in own]

    def _is_same(self):
        return not self._has("result") and not self._strays() and not self._differences()

    def _complain(self, what):
        if self._has("result"):
            raise Fail(f"{what}: the target has noticed: {self.result()}")
        if not procs.is_alive(self.pid):
            raise Fail(f"{what}: the target is dead: {self.process.poll()}")
        strays = [f"{p} ({procs.read(f'/proc/{p}/comm').strip()}, {procs.state(p)})" for p in self._strays()]
        lines = self._differences()[:20]
        raise Fail(f"{what}: the target is harmed: strays {strays}\n  " + "\n  ".join(lines))

    def finish(self):
        """It must still be able to end well."""
        with open(os.path.join(self.state, "go.part"), "w") as f:
            f.write("nonce")
        os.rename(os.path.join(self.state, "go.part"), os.path.join(self.state, "go"))
        if not procs.wait_until(lambda: self._has("result"), 20):
            raise Fail("no verdict of the target")
        if not self.result().startswith("pass"):
            raise Fail(f"the target: {self.result()}")
        self.process.wait(10)


def no_process_left(what, patience=5):
    """Nothing that a failed restore has made may live."""
    def strays():
        procs.reap()
        return procs.tree(os.getpid())[1:]
    if not procs.wait_until(lambda: not strays(), patience):
        names = [f"{p} ({procs.read(f'/proc/{p}/comm').strip()}, {procs.state(p)}, "
                 f"{procs.read(f'/proc/{p}/wchan')})" for p in strays()]
        raise Fail(f"{what}: processes are left: {names}")
