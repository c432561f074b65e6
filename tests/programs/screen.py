#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
# alone: another test would take the number of a pseudo-terminal of the killed
"""screen, detached: see multiplexer.py."""
import os
import sys

import procs
from multiplexer import Multiplexer, test
from sandbox import Fail


class Screen(Multiplexer):
    name = "screen"

    def start(self):
        place = self.environment["SCREENDIR"] = os.path.join(self.directory, "screens")
        os.mkdir(place, 0o700)
        self.run("screen", "-c", "/dev/null", "-d", "-m", "-S", "cpx", "sh")
        if not procs.wait_until(lambda: os.listdir(place), 10):
            raise Fail("screen makes no socket")
        self.pid = int(os.listdir(place)[0].split(".")[0])
        self.do("-X", "screen", "sh")
        if not procs.wait_until(lambda: self.windows() == "0 1", 10):
            raise Fail(f"the windows are {self.windows()!r}")

    def do(self, *args):
        return self.run("screen", "-S", f"{self.pid}.cpx", *args)

    def type(self, window, line):
        self.do("-p", str(window), "-X", "stuff", line.replace("$", "\\$") + "\n")

    def windows(self):
        """Of "0 sh  1$ sh"."""
        return " ".join(word.rstrip("*-$!@") for word in self.do("-Q", "windows").split() if word[0].isdigit())

    def end(self):
        self.do("-X", "quit")


sys.exit(test(Screen))
