#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""less on some page: dumped and going on, dumped and killed and restored onto its terminal, then paged on."""
import os
import sys

import cpx
from terminal import ROWS, Terminal

PAGE = ROWS - 1


def main():
    directory = os.environ["DIR"]
    with open(os.path.join(directory, "text"), "w") as f:
        f.writelines(f"line number {i:05}\n" for i in range(1, 2001))
    terminal = Terminal(directory)
    pid = terminal.start("less text", f"line number {PAGE:05}")
    terminal.type(" ")
    terminal.expect(f"line number {2 * PAGE:05}")
    cpx.dump(pid, os.path.join(directory, "first.image"))
    terminal.type(" ")
    terminal.expect(f"line number {3 * PAGE:05}")
    cpx.dump(pid, os.path.join(directory, "image"), "--kill")
    terminal.expect("Killed")
    terminal.type("$CPX restore image\n")
    terminal.await_foreground("less")
    terminal.type(" ")
    terminal.expect(f"line number {4 * PAGE:05}")
    terminal.type("/number 01234\n")
    terminal.expect("line number 01234")
    terminal.type("q")
    terminal.prompt()
    # A killed less cannot reset the terminal; the one that was restored did.
    terminal.check_shell()
    terminal.close()


if __name__ == "__main__":
    sys.exit(main())
