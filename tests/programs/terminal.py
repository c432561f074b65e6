# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pseudo-terminal with an interactive shell in it, and somebody who types."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import procs
from programs import ENVIRONMENT
from sandbox import Fail

ROWS, COLUMNS = 24, 80
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?<>=]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78M])")


def group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


class Terminal:
    """Text that has come is in `seen` (escape sequences removed)."""

    def __init__(self, directory):
        self.raw, self.seen = b"", ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            self._shell(directory)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.prompt()

    @staticmethod
    def _shell(directory):
        os.chdir(directory)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell keeps ignored what it finds ignored
        env = ENVIRONMENT | {"TERM": "xterm", "HOME": directory, "HISTFILE": "", "PS1": "ready$ ",
                             "CPX": os.environ["CPX"]}
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], env)

    def type(self, text):
        self.forget()
        os.write(self.master, text.encode())

    def forget(self):
        self._take(0)
        self.raw, self.seen = b"", ""

    def _take(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return
        try:
            self.raw += os.read(self.master, 65536)
        except OSError:
            raise Fail(f"the terminal is closed; last seen: {self.seen[-500:]!r}") from None
        self.seen = ESCAPES.sub(b"", self.raw).decode(errors="replace")

    def expect(self, text, timeout=20):
        end = time.monotonic() + timeout
        while text not in self.seen:
            if time.monotonic() > end:
                raise Fail(f"the terminal does not show {text!r} but {self.seen[-800:]!r}")
            self._take(0.02)

    def prompt(self):
        self.expect("ready$ ")

    def await_foreground(self, name):
        """Until a program of that name is what the terminal belongs to; its PID."""
        found = []

        def is_there():
            group = os.tcgetpgrp(self.master)
            found[:] = [p for p in procs.tree(self.pid)
                        if procs.read(f"/proc/{p}/comm").strip() == name and group_of(p) == group]
            return found
        if not procs.wait_until(is_there, 20):
            self._take(0)
            raise Fail(f"no {name} in the foreground; the terminal shows {self.seen[-500:]!r}")
        return found[0]

    def start(self, command, screen):
        """Runs a full-screen program until it shows `screen`; its PID."""
        self.type(command + "\n")
        pid = self.await_foreground(os.path.basename(command.split()[0]))
        self.expect(screen)
        return pid

    def check_shell(self):
        """Back at a shell that works and has its echo again."""
        self.type("echo back-$((40 + 2)) $(stty -a | grep -o ' echo ')\n")
        self.expect("back-42 echo")

    def close(self):
        os.close(self.master)
