#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
# alone: another test would take the number of a pseudo-terminal of the killed
"""tmux: see multiplexer.py."""
import sys

from multiplexer import Multiplexer, test
from sandbox import Fail


class Tmux(Multiplexer):
    name = "tmux"

    def start(self):
        self.environment["TMUX_TMPDIR"] = self.directory
        self.do("new-session", "-d", "-s", "main", "exec sh")
        self.do("new-window", "-d", "-t", "main", "exec sh")
        self.pid = int(self.do("display-message", "-p", "#{pid}"))

    def do(self, *args):
        return self.run("tmux", "-L", "cpx", "-f", "/dev/null", *args)

    def type(self, window, line):
        self.do("send-keys", "-t", f"main:{window}", line, "Enter")

    def windows(self):
        if int(self.do("display-message", "-p", "#{pid}")) != self.pid:
            raise Fail("another server answers")
        return self.do("list-windows", "-F", "#{window_index}").replace("\n", " ")

    def end(self):
        self.do("kill-server")


sys.exit(test(Tmux))
