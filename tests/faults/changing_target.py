#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""Targets that fork, exit, start threads and exec all the time while they are dumped, and targets that are killed
meanwhile: a good image or a clean error, never a hang, and the target does not notice."""
import os
import random
import subprocess
import sys
import time

import cpx
import procs
from faults import no_process_left
from sandbox import Fail

TURMOIL = {
    "forks": "import os\nwhile True:\n p = os.fork()\n if p == 0: os._exit(3)\n"
             " assert os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) == 3\n",
    "nests": "import os\ndef f(d):\n p = os.fork()\n if p == 0:\n  if d: f(d - 1)\n  os._exit(0)\n"
             " assert os.waitpid(p, 0)[1] == 0\nwhile True: f(3)\n",
    "threads": "import threading\nwhile True:\n t = [threading.Thread(target=lambda: sum(range(1000)))"
               " for _ in range(4)]\n [x.start() for x in t]\n [x.join() for x in t]\n",
    "execs": "import os, sys\nn = int(sys.argv[2])\n"
             "os.execv(sys.executable, [sys.executable, '-S', '-E', '-c', sys.argv[1], sys.argv[1], str(n + 1)])\n",
    "maps": "import mmap\nwhile True:\n m = [mmap.mmap(-1, 4096 * 50) for _ in range(20)]\n"
            " for x in m: x[0] = 1\n for x in m: x.close()\n",
}
# What was read of its mappings before the freeze is not true any more: the dump begins anew.
TURMOIL["advises"] = ("import mmap\nm = mmap.mmap(-1, 32 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
                      "for i in range(0, len(m), 4096): m[i] = 1\n"
                      "while True:\n m.madvise(mmap.MADV_DONTDUMP)\n m.madvise(mmap.MADV_DODUMP)\n")
DUMPS = 12


def start(code):
    null = subprocess.DEVNULL
    return subprocess.Popen(["/usr/bin/python3", "-S", "-E", "-c", code, code, "0"], stdin=null, stdout=null,
                            stderr=open("turmoil.err", "wb"), start_new_session=True)


def dump(pid):
    p = subprocess.run([cpx.path(), "dump", str(pid), "-o", "image"], stdin=subprocess.DEVNULL,
                       stderr=subprocess.PIPE, timeout=cpx.TIMEOUT)
    print(f"dump: exit {p.returncode}: {p.stderr.decode().strip()}", flush=True)
    if p.returncode not in (0, 1, 3):
        raise Fail(f"dump ended with {p.returncode}")
    return p.returncode == 0


def end_tree(process):
    process.kill()
    process.wait()
    procs.kill_descendants()


def check_turmoil(name, rng):
    target, good = start(TURMOIL[name]), 0
    time.sleep(0.2)
    for _ in range(DUMPS):
        time.sleep(rng.uniform(0, 0.02))
        if dump(target.pid):
            cpx.run("verify", "image")
            good += 1
        if target.poll() is not None:
            raise Fail(f"{name}: ended with {target.returncode}: {procs.read('turmoil.err')[-500:]}")
    if not good:
        raise Fail(f"{name}: none of {DUMPS} dumps was possible")
    end_tree(target)
    print(f"{name}: {good} of {DUMPS} dumps good", flush=True)


def check_killed(rng):
    """The target ends during its dump."""
    for _ in range(15):
        target = start(TURMOIL["threads"])
        time.sleep(0.1)
        p = subprocess.Popen([cpx.path(), "dump", str(target.pid), "-o", "image.killed"], stdin=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.03))
        target.kill()
        target.wait()
        if p.wait(20) not in (0, 1, 3):
            raise Fail(f"dump of a target that was killed: {p.returncode}")
        no_process_left("a target that was killed during its dump")


def main():
    procs.become_subreaper()
    rng = random.Random(int(os.environ.get("CPX_SEED", "0")) or None)
    for name in TURMOIL:
        check_turmoil(name, rng)
    check_killed(rng)


if __name__ == "__main__":
    sys.exit(main())
