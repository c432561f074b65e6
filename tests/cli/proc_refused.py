#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of /proc/PID that cannot be carried are refused by name: of others, of an address space, shared."""
import os
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

TARGET = r"""
import os, time
shared = os.open("/proc/self/status", os.O_RDONLY)
os.set_inheritable(shared, True)
if os.fork() == 0:
    time.sleep(99)
files = [os.open(f"/proc/{name}", os.O_RDONLY) for name in (f"{os.getppid()}/status", "self/maps", "self/environ", "self/stat")]
os.close(os.open("ready", os.O_CREAT))
time.sleep(99)
"""
WANTED = {
    3: "several tasks share it",
    4: f"'/proc/{os.getpid()}/status': it belongs to a process outside of the tree",
    5: "maps': it holds on to an address space",
    6: "environ': it holds on to an address space",
}


def main():
    os.chdir(os.environ["DIR"])
    procs.become_subreaper()
    null = subprocess.DEVNULL
    target = subprocess.Popen([sys.executable, "-c", TARGET], stdin=null, stdout=null, stderr=null)
    if not procs.wait_until(lambda: os.path.exists("ready"), 10):
        raise Fail("the target does not get ready")
    p = subprocess.run([cpx.path(), "check", str(target.pid)], stdin=null, stderr=subprocess.PIPE)
    lines = p.stderr.decode().splitlines()
    for fd, why in WANTED.items():
        found = [x for x in lines if f": fd {fd} (file of /proc): cannot be checkpointed: " in x and why in x]
        if len(found) != 1:
            raise Fail(f"fd {fd}: no '{why}' in {lines}")
    if p.returncode != 3 or len(lines) != len(WANTED):
        raise Fail(f"exit {p.returncode}: {lines}")
    target.kill()
    target.wait()


if __name__ == "__main__":
    sys.exit(main())
