#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
"""One image after the other, of a target whose memory changes all the time: each of them comes back as it was, what is not
watched is compared, an image that fails takes nothing from the next, and nothing is left with the target however cpx
ends."""
import json
import os
import signal
import subprocess
import sys

import cpx
import procs
from precopy import check_unwatched, finish, start
from sandbox import Fail, patience


class Every:
    """cpx dump --every, going on."""

    def __init__(self, pid, image, *options, **kw):
        self.image, self.log = image, open(f"{image}.said", "w+")
        self.p = subprocess.Popen([cpx.path(), "dump", str(pid), "-o", image, "--json", *options], stdin=subprocess.DEVNULL,
                                  stdout=self.log, stderr=subprocess.STDOUT, **kw)

    def wait_for(self, image):
        if not procs.wait_until(lambda: os.path.exists(image) or self.p.poll() is not None, 20 * patience()) or \
                self.p.returncode is not None:
            raise Fail(f"no {image}: {procs.read(self.log.name)}")

    def end(self, status=0, says=""):
        """What it said on its way: the results of its images."""
        try:
            got = self.p.wait(20 * patience())
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise Fail(f"{self.image}: no end") from None
        said = procs.read(self.log.name)
        print(said)
        if got != status or says not in said:
            raise Fail(f"{self.image}: exit {got}, not {status}, or nothing of '{says}'")
        return results(said)


def results(said):
    """The objects among lines of other kinds."""
    found, lines = [], said.splitlines()
    while "{" in lines:
        first, last = lines.index("{"), lines.index("}")
        found.append(json.loads("\n".join(lines[first:last + 1])))
        del lines[:last + 1]
    return found


def check_by(result, how):
    if result.get("changes") not in how:
        raise Fail(f"{result.get('image')}: changes by {result.get('changes')}, not {how}: {result.get('changes_reason')}")


def end_target(p):
    p.kill()
    p.wait()
    cpx.reap_dead_tree(p.pid)


def restore(image):
    for name in ("go", "result"):
        if os.path.exists(f"state/{name}"):
            os.unlink(f"state/{name}")
    pid = int(cpx.run("restore", image, "-d"))
    finish()
    cpx.reap_dead_tree(pid)


def wild():
    """All of the chain comes back."""
    p = start("wild")
    made = Every(p.pid, "image", "--every=0.15", "--count=4", "--compress=none").end()
    check_unwatched(p.pid)
    if [r["image"] for r in made] != ["image", "image.1", "image.2", "image.3"]:
        raise Fail(f"images {[r['image'] for r in made]}")
    for r in made[1:]:
        check_by(r, ("tracking", "both"))
    end_target(p)
    for image in ("image.1", "image.3"):
        cpx.run("verify", image)
        restore(image)
    os.rename("state", "state.wild")


def at_rest():
    """What little changes is little; compared instead, it is as little. An image that fails."""
    p = start()
    before = procs.stable_snapshot(p.pid)
    env = dict(os.environ, CPX_DENY="pagemap_scan")
    made = Every(p.pid, "compared", "--every=0.1", "--count=2", env=env).end(says="by comparing")
    check_by(made[1], ("comparing",))
    os.mkdir("image.1b.1")
    every = Every(p.pid, "image.1b", "--every=0.1", "--count=3")
    if not procs.wait_until(lambda: "directory" in procs.read(every.log.name), 20 * patience()):
        raise Fail("an image that cannot be written is not told of")
    os.rmdir("image.1b.1")
    made = every.end()
    failed = [r for r in made if r["outcome"] == "failed"]
    if not failed or len(made) - len(failed) != 3:
        raise Fail(f"{len(failed)} of {len(made)} have failed")
    check_by(made[-1], ("tracking",))
    if procs.differences(before, procs.snapshot(p.pid)):
        raise Fail(f"the target has changed: {procs.differences(before, procs.snapshot(p.pid))}")
    end_target(p)
    restore("image.1b.2")
    restore("compared.1")
    os.rename("state", "state.rest")


def ends():
    """A signal, kill -9, the end of the target."""
    p = start()
    every = Every(p.pid, "image.term", "--every=60")
    every.wait_for("image.term")
    every.p.send_signal(signal.SIGTERM)
    every.end(0, "interrupted by signal 15 (Terminated): 1 image was made")
    check_unwatched(p.pid)
    every = Every(p.pid, "image.kill", "--every=0.1")
    every.wait_for("image.kill.1")
    every.p.kill()
    every.p.wait()
    if not procs.wait_until(lambda: " uw" not in procs.read(f"/proc/{p.pid}/smaps"), 5):
        raise Fail("mappings are still watched after kill -9")
    every = Every(p.pid, "image.end", "--every=60")
    every.wait_for("image.end")
    finish()
    p.wait()
    every.end(0, f"task {p.pid} has ended: 1 image was made")


def main():
    procs.become_subreaper()
    wild()
    at_rest()
    ends()


if __name__ == "__main__":
    sys.exit(main())
