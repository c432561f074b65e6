#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""What a dump may use up: memory of cpx's own, whatever the size of the target, bytes a second (--limit-rate), and
processors that the target wants itself."""
import os
import signal
import subprocess
import sys
import time

import cpx
import procs
from sandbox import Fail

MIB = 1 << 20
TARGET = "import os, signal; b = bytearray(os.urandom(1 << 20) * {mib}); open('ready', 'w').close()\n{then}"
BOUND = 64 * MIB  # as docs/limits.md says
PROGRAM = 16 * MIB  # code, libraries, stacks


def start(mib, then="signal.pause()"):
    null = subprocess.DEVNULL
    p = subprocess.Popen([sys.executable, "-c", TARGET.format(mib=mib, then=then)], stdin=null, stdout=null, stderr=null)
    if not procs.wait_until(lambda: os.path.exists("ready"), 10):
        raise Fail("the target does not get ready")
    os.unlink("ready")
    return p


def peak(pid, *options):
    """Bytes that cpx had in memory at most: its own and those of shared buffers."""
    with open("/dev/null", "wb") as null:
        p = subprocess.Popen([cpx.path(), "dump", "-q", str(pid), *options], stdin=subprocess.DEVNULL, stdout=null)
        _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise Fail(f"dump {options}: exit {p.returncode}")
    return usage.ru_maxrss * 1024


def check_memory():
    """More in the target than cpx may have, in each way that pages go."""
    target = start(176)
    for options in (["--compress=none"], ["-j6"], ["-j3", "-o", "-"]):
        got = peak(target.pid, *(options if "-o" in options else options + ["-o", "image"]))
        print(f"{' '.join(options)}: {got / MIB:.1f} MiB", flush=True)
        if got > BOUND + PROGRAM:
            raise Fail(f"dump {options} took {got / MIB:.1f} MiB of memory")
    target.kill()
    target.wait()


def check_rate():
    """Raw by the twin and compressed by workers: not before so many bytes are due."""
    target = start(6)
    for method in "none", "lz4":
        started = time.monotonic()
        result = cpx.dump(target.pid, "image", f"--compress={method}", "--limit-rate=16M")
        taken = time.monotonic() - started
        if taken < result["image_bytes"] / (16 * MIB):
            raise Fail(f"{method}: {result['image_bytes']} bytes in {taken:.3f} s")
        cpx.run("verify", "image")
    target.kill()
    target.wait()


def is_twin_behind(pid):
    """Is there a twin of it, and with less priority?"""
    for n in filter(str.isdigit, os.listdir("/proc")):
        name, _, fields = procs.read(f"/proc/{n}/stat").rpartition(")")
        if name.endswith("(cpx-twin") and procs.read(f"/proc/{n}/cmdline") == procs.read(f"/proc/{pid}/cmdline"):
            return int(fields.split()[16]) > os.getpriority(os.PRIO_PROCESS, pid)
    return False


def work_ns(pid):
    """For how long it ran or was ready to: on a loaded machine the stop alone may make it wait."""
    return sum(int(n) for n in procs.read(f"/proc/{pid}/schedstat").split()[:2])


def check_idle():
    """Nobody steps behind a tree that sleeps."""
    target = start(80)
    before = work_ns(target.pid)
    said = subprocess.run([cpx.path(), "dump", "-vv", str(target.pid), "-o", "image", "--compress=none"], check=True,
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
    is_behind = "in the background" in said
    if "write memory:" not in said or (is_behind and work_ns(target.pid) - before < 500000):
        raise Fail(f"an idle tree is dumped in the background: {said}")
    target.kill()
    target.wait()


def check_interrupt():
    """A dump that waits can be called off; its twin steps behind a tree that is at work."""
    target = start(80, "while True: pass")
    p = subprocess.Popen([cpx.path(), "dump", str(target.pid), "-o", "slow", "--limit-rate=8M"],
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if not procs.wait_until(lambda: is_twin_behind(target.pid), 10):
        raise Fail("there is no twin, or it has the priority of its original")
    p.send_signal(signal.SIGTERM)
    said = p.communicate(timeout=cpx.TIMEOUT)[1].decode()
    if p.returncode != 1 or "interrupted by signal 15" not in said or os.path.exists("slow"):
        raise Fail(f"interrupted: exit {p.returncode}: {said}")
    if procs.state(target.pid) not in "SR":
        raise Fail("the target does not run on")
    target.kill()
    target.wait()


def main():
    os.chdir(os.environ["DIR"])
    for check in check_memory, check_rate, check_idle, check_interrupt:
        started = time.monotonic()
        check()
        print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
