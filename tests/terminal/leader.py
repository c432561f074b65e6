#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""A session leader with a controlling terminal (what a terminal window, ssh or login starts) is restored by a cpx that leads
the session of another terminal: it and its child have that one as their controlling terminal, and ^C reaches it."""
import os
import pty
import select
import sys
import time

import cpx
from sandbox import Fail

JOB = r"""
import os, signal
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\n"))
ask, told = os.pipe(), os.pipe()
if os.fork() == 0:
    while os.read(ask[0], 1):
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
            os.write(told[1], b"1")
        except OSError:
            os.write(told[1], b"0")
os.write(1, b"begun\n")
while True:
    try:
        line = os.read(0, 100)
    except InterruptedError:
        continue
    if line in (b"", b"q\n"):
        break
    terminal = os.open("/dev/tty", os.O_RDWR)
    os.write(ask[1], b"?")
    os.write(terminal, b"leads %d, child %s\n" % (os.tcgetpgrp(terminal) == os.getpgrp() == os.getsid(0),
                                                  os.read(told[0], 1)))
    os.close(terminal)
"""


def spawn(*command):
    pid, master = pty.fork()
    if pid == 0:
        os.closerange(3, 1024)
        os.execv(command[0], command)
    return pid, master


def expect(master, text, timeout=20):
    seen, end = b"", time.monotonic() + timeout
    while text.encode() not in seen:
        if time.monotonic() > end:
            raise Fail(f"the terminal does not show {text!r} but {seen!r}")
        if select.select([master], [], [], 0.05)[0]:
            seen += os.read(master, 4096)


def play(image, *options):
    pid, master = spawn(os.environ["CPX"], "restore", *options, image)
    os.write(master, b"x\n")
    expect(master, "leads 1, child 1")
    os.write(master, b"\x03")
    expect(master, "interrupted")
    os.write(master, b"q\n")
    status = os.waitpid(pid, 0)[1]
    if status:
        raise Fail(f"cpx restore {options} ended with {status}")
    os.close(master)


def main():
    image = os.path.join(os.environ["DIR"], "image")
    pid, master = spawn("/usr/bin/python3", "-c", JOB)
    expect(master, "begun")
    os.write(master, b"x\n")
    expect(master, "leads 1, child 1")
    cpx.dump(pid, image, "--kill")
    os.waitpid(pid, 0)
    os.close(master)
    play(image)
    play(image, "--pid=new")


sys.exit(main())
