# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each system call that cpx makes is made to fail in turn, by strace: the first, the last, and some between."""
import collections
import os
import re
import shutil
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

# Without these no process lives, or the kernel never fails them for cpx, or strace itself needs them.
EXEMPT = set("""execve exit exit_group rt_sigreturn brk arch_prctl set_tid_address restart_syscall set_robust_list rseq
    prlimit64 gettid getpid getppid getuid geteuid getgid getegid getpgrp sched_yield futex rt_sigaction rt_sigprocmask
    munmap get_robust_list""".split())
ERRORS = {"mmap": "ENOMEM", "write": "ENOSPC", "pwrite64": "ENOSPC", "read": "EIO", "clone": "EAGAIN",
          "clone3": "EAGAIN", "ptrace": "EPERM", "openat": "EMFILE"}
TRIES = int(os.environ.get("CPX_FAULTS", "2"))


def strace(options, *args):
    """Follows threads of a dump, but not the tasks of a restore: a task has one tracer, and that is cpx."""
    follow = ["-f"] if args[0] == "dump" else []
    return subprocess.Popen(["strace", *follow, "-qq", *options, cpx.path(), *map(str, args)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def calls_of(*args):
    """How often cpx makes each call after its start."""
    p = strace(["-o", "trace"], *args)
    _, err = p.communicate(timeout=60)
    if p.returncode:
        if b"ptrace" in err:
            print(f"strace cannot trace here: {err.decode()}")
            sys.exit(77)
        raise Fail(f"{args[0]} under strace: exit {p.returncode}: {err.decode()}")
    count = collections.Counter()
    for line in procs.read("trace").splitlines():
        m = re.match(r"(?:\d+\s+)?(\w+)\(", line)
        if m:
            count[m[1]] += 1
    return {name: n for name, n in count.items() if name not in EXEMPT}


def moments(first, last, rng):
    """Which of these calls to fail: the first, the last, and others."""
    return sorted({first, last} | {rng.randint(first, last) for _ in range(TRIES)})[:TRIES + 1]


def faults(count, rng):
    """Of the calls that come after those of the dynamic loader, which any command makes."""
    of_start = calls_of("--version")
    for name, n in sorted(count.items()):
        if n > of_start.get(name, 0):
            for when in moments(of_start.get(name, 0) + 1, n, rng):
                yield name, ERRORS.get(name, "EPERM"), when


def fail(fault, *args):
    name, error, when = fault
    p = strace(["-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={when}"], *args)
    try:
        out, err = p.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        p.kill()
        raise Fail(f"{args[0]} hangs when {name} number {when} fails with {error}") from None
    said = err.decode(errors="replace").strip().replace("\n", " / ")
    print(f"{args[0]} {name} {error} {when}: exit {p.returncode}: {said[:300]}", flush=True)
    if p.returncode not in (0, 1, 2, 3):
        raise Fail(f"{args[0]} with {name} number {when} failing with {error}: exit {p.returncode}: {said}")
    return p.returncode, out.decode()


def check_strace():
    if not shutil.which("strace"):
        print("strace is not installed")
        sys.exit(77)
