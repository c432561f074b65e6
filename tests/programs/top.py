#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""top, killed between two of its looks: it goes on looking, and takes keys."""
import os
import sys

import cpx
from terminal import Terminal


def main():
    terminal = Terminal(os.environ["DIR"])
    pid = terminal.start("top -d 0.3", "COMMAND")
    cpx.dump(pid, os.path.join(os.environ["DIR"], "image"), "--kill")
    terminal.expect("Killed")
    terminal.type("$CPX restore image\n")
    terminal.await_foreground("top")
    for _ in range(2):
        terminal.forget()
        terminal.expect("load average")
    terminal.type("q")
    terminal.prompt()
    terminal.check_shell()
    terminal.close()


sys.exit(main())
