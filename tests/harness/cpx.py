# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running the command under test. CPX is its path."""
import json
import os
import subprocess

import procs
from sandbox import Fail, patience

TIMEOUT = 15 * patience()


def path():
    return os.environ["CPX"]


def run(*args, status=0, **kw):
    """Runs it to its end; its standard output. The exit status must be as said (None: any)."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    shown = f"cpx {' '.join(map(str, args))}"
    try:
        p = subprocess.run([path(), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=TIMEOUT, **kw)
    except subprocess.TimeoutExpired:
        raise Fail(f"{shown}: no end after {TIMEOUT:.0f} s") from None
    print(f"$ {shown}\n{p.stdout.decode(errors='replace')[:4000]}"
          f"{p.stderr.decode(errors='replace')[-4000:]}[exit {p.returncode}]", flush=True)
    if status is not None and p.returncode != status:
        said = (p.stderr.decode(errors="replace").strip() or "nothing").splitlines()
        raise Fail(f"{shown}: exit {p.returncode}, not {status}: {' / '.join(said[:6])}")
    return p.stdout.decode(errors="replace")


def dump(pid, image, *options, **kw):
    """The JSON result of a dump."""
    return json.loads(run("dump", pid, "-o", image, "--json", *options, **kw))


def restore_detached(image, *options, **kw):
    """The new root's PID."""
    out = run("restore", image, "-d", *options, **kw)
    try:
        return int(out.split()[0])
    except (ValueError, IndexError):
        raise Fail(f"restore -d printed {out!r}, not a PID") from None


def reap_dead(pids):
    """After --kill: our children and the orphans that we adopt leave their PIDs free."""
    def is_left():
        procs.reap()
        return [p for p in pids if os.path.exists(f"/proc/{p}")]
    if not procs.wait_until(lambda: not is_left(), 10):
        raise Fail(f"{is_left()} are still there after dump --kill")


def reap_dead_tree(root):
    reap_dead([root])
