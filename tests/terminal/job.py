#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""A shell job is dumped, killed and restored onto the terminal of the same shell, without any flag: it reads
what is typed, is stopped by ^Z, continued by fg and ended by ^C."""
import os
import sys

import cpx
from terminal import Terminal


def main():
    image = os.path.join(os.environ["DIR"], "image")
    terminal = Terminal(os.environ["DIR"])
    terminal.type("cat\n")
    terminal.await_foreground("cat")
    terminal.type("one\n")
    terminal.expect("one\r\none\r\n")
    pid = int(open(f"/proc/{terminal.pid}/task/{terminal.pid}/children").read().split()[0])
    cpx.dump(pid, image)
    terminal.type("two\n")
    terminal.expect("two\r\ntwo\r\n")
    cpx.dump(pid, image, "--kill")
    terminal.expect("Killed")
    terminal.type("$CPX restore image\n")
    terminal.await_foreground("cat")
    terminal.type("three\n")
    terminal.expect("three\r\nthree\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.prompt()
    terminal.type("fg\n")
    terminal.await_foreground("cat")
    terminal.type("four\n")
    terminal.expect("four\r\nfour\r\n")
    terminal.type("\x03")
    terminal.prompt()
    terminal.type("echo status $?\n")
    terminal.expect("status 130")
    terminal.check_shell()
    terminal.close()


sys.exit(main())
