#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""Jobs that are restored from a shell: a pipeline is stopped by ^Z and continued by fg as a whole; a restore in the
background takes neither keyboard nor modes, and gets them by fg."""
import os
import sys

import cpx
import procs
from terminal import Terminal

PIPELINE = "while :; do echo tick; sleep 0.05; done | cat\n"


def check_pipeline(directory):
    with open(os.path.join(directory, "pipeline.sh"), "w") as f:
        f.write(PIPELINE)
    terminal = Terminal(directory)
    pid = terminal.start("sh pipeline.sh", "tick")
    tree = procs.tree(pid)
    cpx.dump(pid, os.path.join(directory, "pipeline"), "--kill")
    terminal.expect("Killed")
    cpx.reap_dead(tree)
    terminal.type("$CPX restore pipeline\n")
    for _ in range(2):
        terminal.expect("tick")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.type("fg\n")
        terminal.expect("$CPX restore pipeline")
        terminal.forget()
    terminal.expect("tick\r\ntick")
    terminal.type("\x03")
    terminal.prompt()
    terminal.check_shell()
    terminal.close()


def check_background(directory):
    terminal = Terminal(directory)
    terminal.type("cat\n")
    pid = terminal.await_foreground("cat")
    cpx.dump(pid, os.path.join(directory, "reader"), "--kill")
    terminal.expect("Killed")
    terminal.type("$CPX restore reader &\n")
    terminal.prompt()
    for i in range(3):
        terminal.type(f"echo typed-$((40 + {i}))\n")
        terminal.expect(f"typed-4{i}")
    terminal.type("fg\n")
    terminal.await_foreground("cat")
    terminal.type("line\n")
    terminal.expect("line\r\nline\r\n")
    terminal.type("\x03")
    terminal.prompt()
    terminal.check_shell()
    terminal.close()


def main():
    procs.become_subreaper()
    check_pipeline(os.environ["DIR"])
    check_background(os.environ["DIR"])


if __name__ == "__main__":
    sys.exit(main())
