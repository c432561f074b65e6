#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""The modes that a job has set (raw, no echo) are set again when it is restored, although the shell has reset
them meanwhile; a window of another size is told by SIGWINCH."""
import fcntl
import os
import struct
import sys
import termios

import cpx
import procs
from sandbox import Fail
from terminal import Terminal

JOB = r"""
import os, signal, sys, termios, tty
tty.setraw(0)
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b"winch %d\r\n" % os.get_terminal_size().columns))
os.write(1, b"begun\r\n")
while True:
    try:
        c = os.read(0, 1)
    except InterruptedError:
        continue
    if c == b"q":
        break
    os.write(1, b"key <%d>\r\n" % c[0])
"""


def is_raw(terminal):
    return not termios.tcgetattr(terminal.master)[3] & (termios.ICANON | termios.ECHO)


def main():
    directory = os.environ["DIR"]
    with open(os.path.join(directory, "job.py"), "w") as f:
        f.write(JOB)
    terminal = Terminal(directory)
    pid = terminal.start("python3 job.py", "begun")
    terminal.type("a")
    terminal.expect("key <97>")
    cpx.dump(pid, os.path.join(directory, "image"), "--kill")
    terminal.expect("Killed")
    terminal.type("stty sane; tput cols\n")
    terminal.prompt()
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 30, 111, 0, 0))
    terminal.type("$CPX restore image\n")
    terminal.expect("winch 111")
    if not procs.wait_until(lambda: is_raw(terminal), 10):
        raise Fail("the terminal is not raw any more")
    terminal.type("\x03")
    terminal.expect("key <3>")
    terminal.type("q")
    terminal.prompt()
    terminal.close()


sys.exit(main())
