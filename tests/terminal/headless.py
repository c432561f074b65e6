#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""A shell job, with children in its group, is restored headless after its terminal is gone, and goes on."""
import os
import sys

import cpx
import procs
from sandbox import Fail
from terminal import Terminal

JOB = "echo be\"\"gun; for i in $(seq 100000); do echo $i >counter.part; mv counter.part counter; sleep 0.02; done"


def counter(directory):
    return int(procs.read(os.path.join(directory, "counter"), "0") or 0)


def check_goes_on(directory):
    before = counter(directory)
    if not procs.wait_until(lambda: counter(directory) > before + 3, 15):
        raise Fail(f"the job does not go on counting from {before}")


def main():
    directory = os.environ["DIR"]
    procs.become_subreaper()
    image = os.path.join(directory, "image")
    terminal = Terminal(directory)
    pid = terminal.start(f"sh -c '{JOB}'", "begun")
    check_goes_on(directory)
    cpx.dump(pid, image, "--kill")
    terminal.expect("Killed")
    terminal.type("exit\n")
    procs.wait_until(lambda: not procs.is_alive(terminal.pid), 10)
    procs.reap()
    terminal.close()
    at_dump = counter(directory)
    new = cpx.restore_detached(image)
    check_goes_on(directory)
    if counter(directory) < at_dump:
        raise Fail(f"the job started over: {counter(directory)} after {at_dump}")
    os.kill(new, 9)


sys.exit(main())
