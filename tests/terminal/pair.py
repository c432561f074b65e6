#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
# alone: another test would take the number of a pseudo-terminal of the killed
"""A program that shows a shell on a pseudo-terminal of its own (as script and terminal windows do) is restored with it
onto the outer terminal: the shell's jobs, its history, ^C, ^Z and the size of the window still work, several times over."""
import os
import sys

import cpx
import procs
from sandbox import Fail
from terminal import Terminal

SPAWN = "python3 -c 'import pty; pty.spawn([\"bash\", \"--norc\", \"--noprofile\", \"-i\"])'"


def is_in_front(pid, name):
    """Does it wait for its terminal, as its foreground group?"""
    comm, _, rest = procs.read(f"/proc/{pid}/stat").partition(") ")
    field = rest.split()
    return comm.endswith(f"({name}") and field[0] == "S" and field[2] == field[5]


def await_inner(terminal, name):
    if not procs.wait_until(lambda: any(is_in_front(p, name) for p in procs.tree(terminal.pid)), 20):
        raise Fail(f"no {name} in the foreground of the inner terminal")


def check_inner(terminal, number):
    terminal.type("jobs\n")
    terminal.expect("Running")
    terminal.prompt()
    terminal.type(f"echo $kept-{number} $(tty)\n")
    terminal.expect(f"kept-{number} /dev/pts/")
    terminal.type("cat\n")
    await_inner(terminal, "cat")
    terminal.type("line\n")
    terminal.expect("line\r\nline\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.type("fg %cat\n")
    await_inner(terminal, "cat")
    terminal.type("\x03")
    terminal.prompt()
    terminal.type("echo status $?\n")
    terminal.expect("status 130")
    terminal.prompt()


def main():
    directory = os.environ["DIR"]
    image = os.path.join(directory, "image")
    terminal = Terminal(directory)
    terminal.type(SPAWN + "\n")
    pid = terminal.await_foreground("python3")
    terminal.prompt()
    terminal.type("kept=kept; sleep 1000 &\n")
    terminal.prompt()
    check_inner(terminal, 0)
    for i, options in enumerate(("", "--pid=new"), 1):
        cpx.dump(pid, f"{image}{i}", "--kill")
        terminal.await_foreground("bash")
        terminal.type(f"stty sane; $CPX restore {options} image{i}\n")
        pid = terminal.await_foreground("python3")
        check_inner(terminal, i)
    terminal.type("kill %1; exit\n")
    terminal.await_foreground("bash")
    terminal.prompt()
    terminal.check_shell()
    terminal.close()


sys.exit(main())
