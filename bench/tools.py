# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: cpx, CRIU, and the primitives that are programs; and where they find their files."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from target import RESET, BenchError

HERE = os.path.dirname(os.path.abspath(__file__))
CFLAGS = ["-std=gnu17", "-O2", "-D_GNU_SOURCE"]
PROGRAMS = {"workload": ["workload.c", "content.c", "-llz4", "-pthread"],
            "fill": ["fill.c", "-pthread"],
            "stop": ["stop.c"],
            "regrow": ["regrow.c", "-pthread"],
            "nothing": ["nothing.c", "-static", "-nostdlib", "-fno-stack-protector"]}


def find_cpx(build):
    for path in (build, os.path.join(build, "cpx")):
        if os.path.isfile(path):
            return os.path.abspath(path)
    sys.exit(f"bench: no cpx in {build}")


class Tools:
    """A directory on tmpfs for all files, and the programs."""

    def __init__(self, build):
        self.cpx, self.criu = find_cpx(build), os.environ.get("CRIU")
        self.cpus = len(os.sched_getaffinity(0))
        self.directory = tempfile.mkdtemp(prefix="cpx-bench-", dir="/dev/shm")
        self._help = {}

    def compile(self):
        flags = CFLAGS + os.environ.get("CFLAGS", "").split()
        jobs = []
        for name, sources in PROGRAMS.items():
            sources = [os.path.join(HERE, s) if s.endswith(".c") else s for s in sources]
            jobs.append(subprocess.Popen([os.environ.get("CC", "cc"), *flags, *sources, "-o", self.path(name)]))
        if any([job.wait() for job in jobs]):
            sys.exit("bench: the workload cannot be built")

    def release(self):
        shutil.rmtree(self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def clear(self):
        """All images of the last case."""
        for name in os.listdir(self.directory):
            if name.startswith("image"):
                self.remove(name)

    def remove(self, name):
        shutil.rmtree(self.path(name)) if os.path.isdir(self.path(name)) else os.unlink(self.path(name))

    def size_mib(self, name):
        return os.path.getsize(self.path(name)) / 2**20

    def warm(self, size):
        """Takes so much memory and gives it back. In a virtual machine memory that was free for a while may have gone back to
        the host (free page reporting), and the first to touch it again would pay for that."""
        if not size:
            return
        fd = os.open(self.path("warm"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
            self.remove("warm")

    def has(self, command, option):
        """Whether this cpx knows it."""
        if command not in self._help:
            self._help[command] = subprocess.run([self.cpx, command, "--help"], stdout=subprocess.PIPE,
                                                 stderr=subprocess.STDOUT, text=True).stdout
        return option in self._help[command]

    # ---- running something ----

    def start(self, argv, out="stdout"):
        """The PID of a program with its output in a file; by vfork, so that the size of the driver costs nothing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, self.path(out), flags, 0o600),
                   (os.POSIX_SPAWN_OPEN, 2, self.path("stderr"), flags, 0o600)]
        environ = {**os.environ, "CPX_BENCH": self.path("")}
        return os.posix_spawn(argv[0], argv, environ, file_actions=actions)

    def finish(self, pid, argv, out="stdout"):
        """Waits for it and returns what it wrote."""
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            with open(self.path("stderr")) as f:
                said = f.read().strip().splitlines() or ["(nothing)"]
            raise BenchError(f"{os.path.basename(argv[0])} {argv[1]}: exit {status}: {said[-1]}")
        with open(self.path(out)) as f:
            return f.read()

    def timed(self, *args):
        """(ms from before its start to its end, standard output)"""
        argv = [str(a) for a in args]
        start = time.perf_counter()
        pid = self.start(argv)
        out = self.finish(pid, argv)
        return (time.perf_counter() - start) * 1e3, out

    # ---- primitives ----

    def nothing(self):
        """Starting a program at all: ms."""
        argv = [self.path("nothing"), ""]
        start = time.perf_counter()
        self.finish(self.start(argv), argv)
        return (time.perf_counter() - start) * 1e3

    def fill(self, name):
        """UFFDIO_COPY of a file into fresh memory: ms."""
        return int(self.timed(self.path("fill"), self.path(name), self.cpus)[1]) / 1e6

    def stop(self, target):
        """Every thread stopped, its registers read, let go of: ms."""
        return int(self.timed(self.path("stop"), target.pid)[1]) / 1e6

    def regrow(self, *what):
        """Tasks or threads cloned with chosen numbers, filled, and given registers, by one program: ms."""
        return int(self.timed(self.path("regrow"), *what)[1].split()[3]) / 1e6

    # ---- cpx ----

    def dump(self, target, *options, image="image"):
        """(wall ms, its figures); the target's longest gap then is of this dump."""
        target.do(RESET)
        wall, out = self.timed(self.cpx, "dump", target.pid, "-o", self.path(image), "--json", *options)
        return wall, json.loads(out)

    def restore(self, target, *options, image="image"):
        """(wall ms, ms until it ran)"""
        target.arm()
        began = time.time_ns() / 1e6
        wall, out = self.timed(self.cpx, "restore", "-d", self.path(image), *options)
        target.pid = int(out.split()[0])
        return wall, target.started() - began


class Criu:
    """The same of CRIU, if the environment names one."""

    def __init__(self, tools):
        self.tools = tools

    def _timed(self, *args):
        directory = self.tools.path("image.criu")
        try:
            return self.tools.timed(self.tools.criu, *args, "-D", directory, "-v1", "-o", "log")[0]
        except BenchError as e:
            with open(os.path.join(directory, "log"), errors="replace") as f:
                raise BenchError(f"{e}: {' | '.join(f.read().splitlines()[-1:])}") from e

    def dump(self, target):
        """Wall ms; the target runs on."""
        os.makedirs(self.tools.path("image.criu"), exist_ok=True)
        target.do(RESET)
        return self._timed("dump", "-t", target.pid, "--leave-running")

    def restore(self, target):
        target.arm()
        wall = self._timed("restore", "-d")
        target.started()
        return wall

    def size_mib(self):
        with os.scandir(self.tools.path("image.criu")) as entries:
            return sum(e.stat().st_size for e in entries) / 2**20
