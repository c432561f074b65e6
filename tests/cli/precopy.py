#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""Pre-copy of a target whose memory changes all the time, in all ways: it goes on unharmed, and what is restored fits
together. Nothing that watches it is left."""
import os
import subprocess
import sys

import cpx
import procs
from sandbox import Fail


def start(*args, directory="state"):
    os.mkdir(directory)
    null = subprocess.DEVNULL
    p = subprocess.Popen([os.path.join(os.environ["BIN"], "changing"), os.path.abspath(directory), *args],
                         stdin=null, stdout=null, stderr=null, cwd=directory, start_new_session=True)
    if not procs.wait_until(lambda: os.path.exists(f"{directory}/ready"), 20):
        raise Fail("the target does not get ready")
    return p


def finish(directory="state"):
    with open(f"{directory}/go.part", "w") as f:
        f.write("nonce")
    os.rename(f"{directory}/go.part", f"{directory}/go")
    if not procs.wait_until(lambda: os.path.exists(f"{directory}/result"), 20):
        raise Fail("no verdict of the target")
    result = procs.read(f"{directory}/result")
    if not result.startswith("pass"):
        raise Fail(f"the target: {result}")


def check_unwatched(pid):
    if procs.is_watched(pid):
        raise Fail("mappings are still watched")


def check_result(result, mode="precopy"):
    if result["freeze_mode"] != mode:
        raise Fail(f"freeze mode {result['freeze_mode']}, not {mode}: {result.get('freeze_reason')}")


def restore(*args, **kw):
    pid = int(cpx.run("restore", *args, "-d", **kw))
    finish()
    cpx.reap_dead_tree(pid)


def wild():
    p = start("wild")
    cpx.dump(p.pid, "image", "--precopy=1", "--compress=none")
    check_unwatched(p.pid)
    cpx.run("verify", "image")
    cpx.dump(p.pid, "image", "--precopy=3", "--kill")
    p.wait()
    cpx.reap_dead_tree(p.pid)
    restore("image")


def steady():
    os.rename("state", "state.wild")
    p = start()
    before = procs.stable_snapshot(p.pid)
    with open("pipe", "wb") as f:
        subprocess.run([cpx.path(), "dump", str(p.pid), "--precopy", "-o", "-"], stdin=subprocess.DEVNULL, stdout=f, check=True)
    check_unwatched(p.pid)
    if procs.differences(before, procs.snapshot(p.pid)):
        raise Fail(f"the target has changed: {procs.differences(before, procs.snapshot(p.pid))}")
    check_result(cpx.dump(p.pid, "image", "--precopy=0"), "twin")
    check_result(cpx.dump(p.pid, "image", "--precopy", "--kill"))
    p.wait()
    cpx.reap_dead_tree(p.pid)
    with open("pipe", "rb") as f:
        restore("-", stdin=f)


def main():
    procs.become_subreaper()
    wild()
    steady()


if __name__ == "__main__":
    sys.exit(main())
