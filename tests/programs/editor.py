# SPDX-License-Identifier: LGPL-2.1-or-later
"""An editor in the middle of an insertion: dumped, killed, restored onto the terminal by a plain `cpx restore`,
the old one or another one, and typed on in."""
import os
import shutil

import cpx
import procs
from programs import ENVIRONMENT
from sandbox import Fail
from terminal import Terminal

TEXT = "It was the best of times, it was the worst of times, and the freeze was short."


class Editor:
    command = ""  # of a new file, whose name is appended
    screen = ""   # what is shown when it is there
    insert = ""   # keys before text is typed
    leave = ""    # keys that write the file and end
    splits = (1, 29, len(TEXT))

    @property
    def name(self):
        return self.command.split()[0]


def check(editor, directory, name, split, is_other_terminal):
    path = os.path.join(directory, name)
    terminal = Terminal(directory)
    pid = terminal.start(f"{editor.command} {name}", editor.screen)
    terminal.type(editor.insert + TEXT[:split])
    terminal.expect(TEXT[:split].split()[-1])
    tree = procs.tree(pid)
    cpx.dump(pid, path + ".image", "--kill")
    terminal.expect("Killed")
    cpx.reap_dead(tree)
    if is_other_terminal:
        terminal.close()
        terminal = Terminal(directory)
    terminal.type(f"$CPX restore {name}.image\n")
    terminal.await_foreground(editor.name)
    terminal.type(TEXT[split:] + editor.leave)
    if not procs.wait_until(lambda: os.path.exists(path) and os.path.getsize(path), 10):
        raise Fail(f"{editor.name} wrote no file; the terminal shows {terminal.seen[-500:]!r}")
    terminal.prompt()
    terminal.check_shell()
    with open(path) as f:
        found = f.read()
    if found.rstrip("\n") != TEXT:
        raise Fail(f"{editor.name} wrote {found!r}")
    terminal.close()


def test(editor):
    if not shutil.which(editor.name, path=ENVIRONMENT["PATH"]):
        print(f"{editor.name} is not installed")
        return 77
    procs.become_subreaper()
    for i, split in enumerate(editor.splits):
        for is_other_terminal in (False, True):
            check(editor, os.environ["DIR"], f"text{i}{int(is_other_terminal)}", split, is_other_terminal)
    return 0
