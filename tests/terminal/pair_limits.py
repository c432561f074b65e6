#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# alone: another test would take the number of a pseudo-terminal of the killed
"""Pseudo-terminals that cannot be carried are refused by name: with unread data that could not be put back, with a slave open outside, and
are left as they are. One whose number is taken is restored into a /dev/pts of its own, and dumped and restored from there."""
import os
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

JOB = r"""
import fcntl, os, signal, sys, termios, time, tty
signal.signal(signal.SIGIO, signal.SIG_IGN)
master, slave = os.openpty()
name = os.ttyname(slave)
os.write(1, name.encode() + b"\n")
for line in sys.stdin:
    exec(line)
    os.write(1, b"done\n")
for i in range(1000):
    os.write(slave, b"%d\n" % i)
    text = os.read(master, 100)
    with open("part", "wb") as f:
        f.write(os.ttyname(slave).encode() + b" " + text)
    os.rename("part", "count")
    time.sleep(0.01)
"""


INT = "(1).to_bytes(4, 'little')"
PIPES = "--external-pipe=null"
WRITE, READ = "os.write(slave, b'unread')", "os.read(master, 100)"
# How it gets so, how it is undone, the reason.
UNREAD = (
    (f"fcntl.ioctl(slave, termios.TIOCEXCL); {WRITE}", f"fcntl.ioctl(slave, termios.TIOCNXCL); {READ}",
     "its other side cannot be opened again"),
    (f"fcntl.ioctl(master, 0x40045431, {INT}); {WRITE}", f"fcntl.ioctl(master, 0x40045431, bytes(4)); {READ}",
     "its other side cannot be opened again"),
    (f"{WRITE}; os.close(slave)", f"{READ}; slave = os.open(name, os.O_RDWR | os.O_NOCTTY)", "its other side is not open"),
    (f"fcntl.fcntl(master, fcntl.F_SETFL, os.O_ASYNC); {WRITE}", f"fcntl.fcntl(master, fcntl.F_SETFL, 0); {READ}",
     "a signal tells of what arrives"),
    (f"fcntl.ioctl(master, termios.TIOCPKT, {INT}); termios.tcflush(slave, termios.TCIFLUSH)",
     "fcntl.ioctl(master, termios.TIOCPKT, bytes(4))", "a change of state (packet mode) is unread"),
    ("m = termios.tcgetattr(slave); tty.setraw(slave); os.write(master, bytes(3500))",
     "time.sleep(0.1); termios.tcflush(slave, termios.TCIFLUSH); termios.tcsetattr(slave, termios.TCSANOW, m)", "that is too much"),
    (f"n = m[:3] + [m[3] | 0x10000] + m[4:]; termios.tcsetattr(slave, termios.TCSANOW, n); {WRITE}",
     f"termios.tcsetattr(slave, termios.TCSANOW, m); {READ}", "its modes are unusual"),
)


class Job:
    def __init__(self, directory):
        self.process = subprocess.Popen(["python3", "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        cwd=directory, close_fds=True)
        self.name = self.process.stdout.readline().decode().strip()
        self.pid = self.process.pid

    def tell(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


def refused(pid, text):
    p = subprocess.run([cpx.path(), "check", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line for line in p.stdout.decode().splitlines() if text in line]
    return p.returncode == 3 and "pseudo-terminal master" in "".join(lines)


def check_refusals(job):
    if refused(job.pid, "not yet read"):
        raise Fail("an empty pseudo-terminal is refused")
    for make, undo, why in UNREAD:
        job.tell(make)
        if not refused(job.pid, f"not yet read at the other, and {why}"):
            raise Fail(f"not refused: {make}")
        job.tell(undo)
        if refused(job.pid, "not yet read"):
            raise Fail(f"still refused: {undo}")
    slave = os.open(job.name, os.O_RDWR | os.O_NOCTTY)
    if not refused(job.pid, f"outside of the tree, has {job.name} open too"):
        raise Fail("a slave open outside is not refused")
    os.close(slave)


def check_stopped(job, image):
    """What only shows when it is to be taken."""
    job.tell(f"{WRITE}; termios.tcflow(slave, termios.TCOOFF)")
    p = subprocess.run([cpx.path(), "dump", str(job.pid), "-o", image, PIPES], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if p.returncode != 3 or b"and its output is stopped" not in p.stderr:
        raise Fail(f"stopped output: {p.returncode}, {p.stderr.decode()}")
    job.tell("termios.tcflow(slave, termios.TCOON)")
    cpx.dump(job.pid, image, PIPES)
    if job.tell(f"os.write(1, {READ} + b'\\n')") != b"unread\n":
        raise Fail("the output is not what it was")


def count(directory):
    name, _, number = procs.read(os.path.join(directory, "count"), "- 0").partition(" ")
    return name, int(number or 0)


def check_goes_on(directory, name):
    at = count(directory)[1]
    if not procs.wait_until(lambda: count(directory)[1] > at + 2, 15):
        raise Fail(f"it does not go on from {at}")
    if count(directory)[0] != name:
        raise Fail(f"{name} is {count(directory)[0]} now")


def take(name):
    """Holds masters until the number of this slave is one of theirs."""
    held = []
    while not os.path.exists(name):
        held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    return held


def check_refused_pipes(directory):
    job = Job(directory)
    check_refusals(job)
    check_stopped(job, os.path.join(directory, "image"))
    job.process.kill()
    job.process.wait()


def check_own_devpts(directory, image):
    process = subprocess.Popen(["python3", "-c", JOB], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory)
    if not procs.wait_until(lambda: count(directory)[1] > 2, 15):
        raise Fail("it does not count")
    name = count(directory)[0]
    cpx.dump(process.pid, image, "--kill")
    process.wait()
    held = take(name)
    p = subprocess.run([cpx.path(), "restore", image, "--pid=same", "-d"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode != 3 or f"{name} is taken".encode() not in p.stderr:
        raise Fail(f"not refused for its number: {p.returncode}: {p.stderr.decode()}")
    for i in range(2):
        pid = cpx.restore_detached(image, "--pid=new")
        check_goes_on(directory, name)
        os.unlink(image)
        cpx.dump(pid, image, "--kill")
        procs.wait_until(lambda: not procs.is_alive(pid), 10)
    for fd in held:
        os.close(fd)


def main():
    directory = os.environ["DIR"]
    procs.become_subreaper()
    check_refused_pipes(directory)
    check_own_devpts(directory, os.path.join(directory, "image"))


sys.exit(main())
