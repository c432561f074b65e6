#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""vi in the middle of an insertion: dumped, killed, restored onto the terminal by a plain `cpx restore`,
the old one or another one, and typed on in."""
import os
import sys

import cpx
import procs
from sandbox import Fail
from terminal import Terminal

TEXT = "It was the best of times, it was the worst of times, and the freeze was short."


def check(directory, name, split, is_other_terminal):
    path = os.path.join(directory, name)
    terminal = Terminal(directory)
    pid = terminal.start(f"vi -u NONE -N {name}", "[New]")
    terminal.type("i" + TEXT[:split])
    terminal.expect(TEXT[:split].split()[-1])
    cpx.dump(pid, path + ".image", "--kill")
    terminal.expect("Killed")
    if is_other_terminal:
        terminal.close()
        terminal = Terminal(directory)
    terminal.type(f"$CPX restore {name}.image\n")
    terminal.await_foreground("vi")
    terminal.type(TEXT[split:] + "\033")
    terminal.type(":wq\n")
    if not procs.wait_until(lambda: os.path.exists(path) and os.path.getsize(path), 10):
        raise Fail(f"vi wrote no file; the terminal shows {terminal.seen[-500:]!r}")
    terminal.prompt()
    terminal.check_shell()
    with open(path) as f:
        found = f.read()
    if found != TEXT + "\n":
        raise Fail(f"vi wrote {found!r}")
    terminal.close()


def main():
    for i, split in enumerate((1, 29, len(TEXT))):
        for is_other_terminal in (False, True):
            check(os.environ["DIR"], f"text{i}{int(is_other_terminal)}", split, is_other_terminal)


if __name__ == "__main__":
    sys.exit(main())
