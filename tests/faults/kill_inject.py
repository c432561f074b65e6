# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill_inject.py INJECT_ONCE INJECT_TARGET: kill -9 at 150 random moments of a freeze with injection, batches in all threads
and twins. The target checks its registers and calls from inside; from outside nothing may have changed.

CPX_KILLS is the number, CPX_SEED makes the moments the same again."""
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
import procs  # noqa: E402

KILLS = int(os.environ.get("CPX_KILLS", "150"))
RESTLESS = ("SigPnd", "ShdPnd", "pos")


def once(program, pid):
    """Seconds that an undisturbed one takes."""
    start = time.monotonic()
    subprocess.run([program, str(pid)], check=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - start


def kill_after(program, pid, delay):
    p = subprocess.Popen([program, str(pid)], stdin=subprocess.DEVNULL)
    time.sleep(delay)
    p.kill()
    return p.wait() < 0


def check_same(pid, before, what):
    if not procs.wait_until(lambda: not procs.differences(before, procs.snapshot(pid), ignore=RESTLESS), 5):
        lines = procs.differences(before, procs.snapshot(pid), ignore=RESTLESS)
        sys.exit(f"{what}: the target has changed:\n  " + "\n  ".join(lines[:20]))


def main():
    program, target = sys.argv[1:]
    seed = int(os.environ.get("CPX_SEED", "0")) or random.randrange(1 << 30)
    print(f"CPX_SEED={seed}")
    rng = random.Random(seed)
    p = subprocess.Popen([target, "5", "tolerant"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    p.stdout.readline()
    time.sleep(0.1)
    before = procs.stable_snapshot(p.pid)
    seconds = min(once(program, p.pid) for _ in range(5))
    killed = 0
    for i in range(KILLS):
        delay = rng.uniform(0, seconds * 1.1)
        killed += kill_after(program, p.pid, delay)
        check_same(p.pid, before, f"kill {i} after {delay * 1000:.3f} of {seconds * 1000:.1f} ms")
    once(program, p.pid)
    check_same(p.pid, before, "undisturbed, after all the kills")
    p.terminate()
    status = p.wait(20)
    print(f"{KILLS} survivals, {killed} killed before their end; the target ends with {status}")
    return status != 0


sys.exit(main())
