#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# alone: another test would take the number of the pseudo-terminal of the killed
"""script(1) with a shell on its pseudo-terminal, which has a variable, a stopped job and one in the background."""
import os
import sys

import cpx
import procs
from sandbox import Fail
from terminal import Terminal

SHELL = "PS1='in''side$ ' script -q log -c 'bash --norc --noprofile'\n"


def child_named(pid, name):
    found = [p for p in procs.tree(pid) if procs.read(f"/proc/{p}/comm").strip() == name]
    if not found:
        raise Fail(f"no {name} below {pid}")
    return found[0]


def kill_and_restore(terminal, image):
    pid = child_named(terminal.pid, "script")
    tree = procs.tree(pid)
    cpx.dump(pid, image, "--kill")
    terminal.prompt()  # a restored one does not say "Killed": the shell's child is cpx, which exits with 137
    cpx.reap_dead(tree)
    terminal.type(f"$CPX restore {os.path.basename(image)}\n")
    terminal.await_foreground("script")


def main():
    procs.become_subreaper()
    directory = os.environ["DIR"]
    terminal = Terminal(directory)
    terminal.type(SHELL)
    terminal.expect("inside$ ")
    stopped = os.path.join(directory, "stopped")
    terminal.type("cat >stopped\n")
    terminal.type("first\n")
    if not procs.wait_until(lambda: procs.read(stopped) == "first\n", 10):
        raise Fail("cat does not write")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("x=17; sleep 1000 &\n")
    terminal.expect("inside$ ")
    for round in range(2):
        kill_and_restore(terminal, os.path.join(directory, f"image{round}"))
        terminal.type("echo kept-$x; jobs\n")
        for text in ("kept-17", "Stopped", "Running"):
            terminal.expect(text)
    terminal.type("fg %1\n")
    terminal.expect("cat > stopped")
    terminal.type("second\n")
    if not procs.wait_until(lambda: procs.read(stopped) == "first\nsecond\n", 10):
        raise Fail("the stopped job does not go on")
    terminal.type("\x04")
    terminal.expect("inside$ ")
    terminal.type("kill %2; wait; exit\n")
    terminal.prompt()
    terminal.check_shell()
    if "kept-17" not in procs.read(os.path.join(directory, "log")):
        raise Fail("script has not gone on writing its log")


sys.exit(main())
