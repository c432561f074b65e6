# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running workload (workload.c), driven by the page that it shares with us, and how it is ended."""
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import time

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
TOUCH, FORK, WRITE, SAVE, LZ4, DIRTY, RESET, FORK_ALL = range(1, 9)  # enum command of control.h
PAGE = 4096
PATIENCE = 120


class BenchError(Exception):
    """One case cannot be measured; the others can."""


class Control:
    """struct control of control.h."""

    FIELDS = {"command": "I", "argument": "I", "ready": "I", "tick_us": "I", "generation": "I", "started": "I",
              "started_ns": "Q", "result_ns": "Q", "gap_ns": "Q", "ticks": "Q", "writes": "Q",
              "forked": "I"}

    def __init__(self, path, is_new=True):
        if is_new:
            with open(path, "wb") as f:
                f.truncate(mmap.PAGESIZE)
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        self._place, at = {}, 0
        for name, kind in self.FIELDS.items():
            self._place[name] = ("=" + kind, at)
            at += struct.calcsize("=" + kind)

    def __getitem__(self, name):
        return struct.unpack_from(self._place[name][0], self._map, self._place[name][1])[0]

    def __setitem__(self, name, value):
        struct.pack_into(self._place[name][0], self._map, self._place[name][1], value)


def adopt_orphans():
    """What is restored becomes our child: init may take seconds to reap it, and until then its PIDs are taken."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def marked(marker):
    """PIDs of all processes with that string in their environment: a restore keeps it."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as f:
                    if marker.encode() in f.read():
                        found.append(int(name))
            except OSError:
                pass
    return found


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"nothing came of waiting until {what}")
        time.sleep(0.001)


class Target:
    """One workload, through all its dumps and restores."""

    def __init__(self, tools, **what):
        self.tools, self.marker = tools, f"CPX_BENCH={tools.path('')}"
        self.control = Control(tools.path("control"))
        self.control["tick_us"] = 100
        command = [tools.path("workload"), tools.path("control"), tools.path("scratch")]
        command += [f"{name}={value}" for name, value in what.items()]
        name, value = self.marker.split("=", 1)
        self.process = subprocess.Popen(command, start_new_session=True, env={**os.environ, name: value}, **QUIET)
        self.pid = self.process.pid
        wait_until(lambda: self.control["ready"] >= int(what.get("tasks", 1)) or self.process.poll() is not None,
                   "the workload is ready")
        if self.process.poll() is not None:
            raise BenchError("the workload ended at once")

    def do(self, command, argument=0):
        """Milliseconds that it took there, if it is something that is timed."""
        self.control["argument"] = argument
        self.control["command"] = command
        wait_until(lambda: self.control["command"] == 0, "the workload has done its work")
        return self.control["result_ns"] / 1e6

    def gap(self):
        return self.control["gap_ns"] / 1e6

    def arm(self):
        """From now on, whoever is restored says so: see started()."""
        self.control["started"] = 0
        self.control["generation"] += 1

    def started(self):
        """CLOCK_REALTIME in ms of its first instruction after a restore, or a few later."""
        wait_until(lambda: self.control["started"], "what was restored runs")
        return self.control["started_ns"] / 1e6

    def end(self):
        """All that is left of it, wherever it came from; returns when its PIDs are free."""
        left = marked(self.marker)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.was_ended(left)

    def was_ended(self, pids=()):
        if self.process:
            self.process.wait(PATIENCE)
            self.process = None
        wait_until(lambda: self._is_gone(pids), "the workload is gone")

    def _is_gone(self, pids):
        reap_orphans()
        return not any(os.path.exists(f"/proc/{pid}") for pid in (self.pid, *pids))
