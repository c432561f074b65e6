# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done with each program of programs.py, several rounds each at random moments.

CPX_ROUNDS (2) is the number of rounds, CPX_SEED makes the moments the same again.
"""
import os
import random
import shutil
import signal
import subprocess
import time

import cpx
import procs
from programs import PROGRAMS
from sandbox import Fail
from subjects import USER, drop_privileges

ROUNDS = int(os.environ.get("CPX_ROUNDS", "2"))


class Ended(Exception):
    """The program was through before its dump began: try an earlier moment."""


class Round:
    """One run of a program, in a directory of its own."""

    def __init__(self, program, directory, rng, seconds):
        self.program, self.directory, self.rng, self.seconds = program, directory, rng, seconds
        self.image = os.path.join(directory, "image")
        self.started = time.monotonic()
        self.process = program.start(directory)
        self.pid = self.process.pid

    def sleep(self, share):
        """A random part of what is left of `share` of the undisturbed time."""
        moment = self.rng.uniform(0.02, share) * self.seconds
        print(f"moment: {moment:.3f} of {self.seconds:.3f} s", flush=True)
        time.sleep(moment)

    def check_runs(self):
        if self.process.poll() is not None:
            raise Ended

    def dump(self, *options):
        self.check_runs()
        try:
            return cpx.dump(self.pid, self.image, *options)
        except Fail:
            if self._has_ended_by_itself():
                raise Ended from None
            raise

    def _has_ended_by_itself(self):
        """Who is killed does not end with 0."""
        try:
            return self.process.wait(1) == 0
        except subprocess.TimeoutExpired:
            return False

    def dump_kill(self):
        """A dump that kills, and the PIDs free again."""
        self.dump("--kill")
        self.process.wait(10)
        if not procs.wait_until(lambda: not procs.reap(), 10):
            raise Fail("dump --kill left processes running")

    def dump_kill_restored(self):
        """The same with a restored tree, whose end cpx passes on."""
        self.dump("--kill")
        if self.process.wait(10) != 128 + signal.SIGKILL:
            raise Fail(f"restore in the foreground: exit {self.process.returncode} after a SIGKILL")
        if not procs.wait_until(lambda: not procs.reap(), 10):
            raise Fail("dump --kill left processes running")

    def kill(self):
        if not procs.kill_descendants():
            raise Fail("the killed program does not go")

    def restore(self):
        """In the foreground: cpx takes the place of the process that we wait for."""
        pidfile = os.path.join(self.directory, "pid")
        with open(os.path.join(self.directory, "out"), "ab") as out:
            self.process = subprocess.Popen([cpx.path(), "restore", self.image, "--pidfile", pidfile],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
        procs.wait_until(lambda: procs.read(pidfile).strip() or self.process.poll() is not None, 20)
        pid = procs.read(pidfile).strip()
        self.pid = int(pid) if pid else None

    def finish(self):
        patience = max(180, 5 * self.seconds)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Fail(f"no end within {patience:.0f} s; processes: {self._describe()}") from None
        out = procs.read(os.path.join(self.directory, "out")).strip()
        if status:
            raise Fail(f"exit status {status}; output: {out[-600:]!r}")
        return self.program.result(self.directory)

    def _describe(self):
        return "; ".join(f"{p} {procs.read(f'/proc/{p}/comm').strip()} {procs.state(p)} "
                         f"{procs.read(f'/proc/{p}/wchan')}" for p in procs.tree(os.getpid())[1:])


# ---- what can be done in a round ----------------------------------------------------------------

def kill_restore(r):
    """Stopped, dumped, killed, restored: nothing has happened in between."""
    r.sleep(0.9)
    r.dump_kill()
    r.restore()


def run_on(r):
    """Dumped, and never touched again."""
    r.sleep(0.9)
    r.dump()


def kill_later(r):
    """Dumped while it runs on, killed some time later, restored."""
    r.sleep(0.8)
    r.dump()
    time.sleep(r.rng.uniform(0, 0.1))
    r.check_runs()
    r.kill()
    r.restore()


def twice(r):
    """Dumped and restored, and the restored one again."""
    r.sleep(0.5)
    r.dump_kill()
    r.restore()
    r.sleep(0.3)
    if r.process.poll() is None:
        os.rename(r.image, r.image + ".first")
        r.dump_kill_restored()
        r.restore()


def killed_dumps(r):
    """cpx is killed at random moments of dumps, the copying included; then a good one."""
    r.sleep(0.4)
    for _ in range(4):
        r.check_runs()
        p = subprocess.Popen([cpx.path(), "dump", str(r.pid), "-o", r.image], stdin=subprocess.DEVNULL)
        time.sleep(r.rng.uniform(0, 0.06))
        p.kill()
        p.wait()
        if os.path.exists(r.image):
            os.unlink(r.image)
        time.sleep(r.rng.uniform(0, 0.02))
    r.dump_kill()
    r.restore()


MODES = {"kill-restore": kill_restore, "run-on": run_on, "kill-later": kill_later, "twice": twice,
         "killed-dumps": killed_dumps}


# ---- tests: one per program and mode --------------------------------------------------------------

class Test:
    timeout, alone = 400, False

    def __init__(self, program, mode, is_user=False):
        self.program, self.mode, self.is_user = program, mode, is_user
        self.owner = USER if is_user else None
        self.name = f"programs/{program.name}/{mode}{'/user' if is_user else ''}"

    def run(self, directory):
        self.program.check_installed()
        if self.is_user:
            drop_privileges()
        inputs = os.path.join(directory, "inputs")
        os.mkdir(inputs)
        self.program.prepare(inputs)
        seed = int(os.environ.get("CPX_SEED", random.randrange(2**32)))
        print(f"CPX_SEED={seed}", flush=True)
        rng = random.Random(seed)
        expected, seconds = self._undisturbed(directory, inputs)
        for i in range(ROUNDS):
            self._round(directory, inputs, i, rng, expected, seconds)

    def _copy(self, directory, inputs, name):
        place = os.path.join(directory, name)
        shutil.copytree(inputs, place)
        return place

    def _undisturbed(self, directory, inputs):
        place = self._copy(directory, inputs, "undisturbed")
        r = Round(self.program, place, None, 0)
        expected = r.finish()
        seconds = time.monotonic() - r.started
        if None in expected.values():
            raise Fail(f"the undisturbed run made no {[k for k, v in expected.items() if v is None]}")
        return expected, seconds

    def _round(self, directory, inputs, number, rng, expected, seconds):
        for attempt in range(5):
            place = self._copy(directory, inputs, f"round{number}.{attempt}")
            r = Round(self.program, place, rng, seconds * 0.7**attempt)
            try:
                MODES[self.mode](r)
            except Ended:
                r.process.wait()
                continue
            found = r.finish()
            for name, content in expected.items():
                if found[name] != content:
                    raise Fail(f"round {number}: {name} is not that of the undisturbed run ({place})")
            shutil.rmtree(place)
            return
        raise Fail("always over before its dump")


USER_MODES = ("kill-restore", "run-on", "twice")


def tests():
    found = []
    for program in PROGRAMS:
        modes = [m for m in program.modes or MODES if m != "kill-later" or program.is_replayable]
        found += [Test(program, m) for m in modes]
        found += [Test(program, m, is_user=True) for m in modes if m in USER_MODES]
    return found
