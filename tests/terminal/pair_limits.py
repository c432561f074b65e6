#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# alone: another test would take the number of a pseudo-terminal of the killed
"""Pseudo-terminals that cannot be carried are refused by name: with unread data, with a slave open outside. One whose
number is taken is restored into a /dev/pts of its own, and dumped and restored from there."""
import os
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

JOB = r"""
import os, sys, time
master, slave = os.openpty()
os.write(1, os.ttyname(slave).encode() + b"\n")
while True:
    command = os.read(0, 1)
    if command == b"w":
        os.write(slave, b"unread\n")
    if command == b"r":
        os.read(master, 100)
    if command == b"":
        break
    os.write(1, b"done\n")
for i in range(1000):
    os.write(slave, b"%d\n" % i)
    text = os.read(master, 100)
    with open("part", "wb") as f:
        f.write(os.ttyname(slave).encode() + b" " + text)
    os.rename("part", "count")
    time.sleep(0.01)
"""


class Job:
    def __init__(self, directory):
        self.process = subprocess.Popen(["python3", "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        cwd=directory, close_fds=True)
        self.name = self.process.stdout.readline().decode().strip()
        self.pid = self.process.pid

    def tell(self, command):
        self.process.stdin.write(command)
        self.process.stdin.flush()
        self.process.stdout.readline()


def refused(pid, text):
    p = subprocess.run([cpx.path(), "check", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line for line in p.stdout.decode().splitlines() if text in line]
    return p.returncode == 3 and "pseudo-terminal master" in "".join(lines)


def check_refusals(job):
    if refused(job.pid, "not yet read"):
        raise Fail("an empty pseudo-terminal is refused")
    job.tell(b"w")
    if not refused(job.pid, "8 bytes written by its slave are not yet read"):
        raise Fail("unread output is not refused")
    job.tell(b"r")
    if refused(job.pid, "not yet read"):
        raise Fail("what was read is still refused")
    slave = os.open(job.name, os.O_RDWR | os.O_NOCTTY)
    if not refused(job.pid, f"outside of the tree, has {job.name} open too"):
        raise Fail("a slave open outside is not refused")
    os.close(slave)


def count(directory):
    name, _, number = procs.read(os.path.join(directory, "count"), "- 0").partition(" ")
    return name, int(number or 0)


def check_goes_on(directory, name):
    at = count(directory)[1]
    if not procs.wait_until(lambda: count(directory)[1] > at + 2, 15):
        raise Fail(f"it does not go on from {at}")
    if count(directory)[0] != name:
        raise Fail(f"{name} is {count(directory)[0]} now")


def dump_idle(pid, image, *options):
    """Between its write and its read it is refused, and asked again."""
    def is_dumped():
        p = subprocess.run([cpx.path(), "dump", str(pid), "-o", image, *options], stderr=subprocess.PIPE)
        if p.returncode and b"not yet read" not in p.stderr:
            raise Fail(f"dump: {p.stderr.decode()}")
        return p.returncode == 0
    if not procs.wait_until(is_dumped, 20):
        raise Fail("it is never idle")


def take(name):
    """Holds masters until the number of this slave is one of theirs."""
    held = []
    while not os.path.exists(name):
        held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    return held


def check_refused_pipes(directory):
    job = Job(directory)
    check_refusals(job)
    job.process.kill()
    job.process.wait()


def check_own_devpts(directory, image):
    process = subprocess.Popen(["python3", "-c", JOB], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory)
    if not procs.wait_until(lambda: count(directory)[1] > 2, 15):
        raise Fail("it does not count")
    name = count(directory)[0]
    dump_idle(process.pid, image, "--kill")
    process.wait()
    held = take(name)
    p = subprocess.run([cpx.path(), "restore", image, "--pid=same", "-d"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode != 3 or f"{name} is taken".encode() not in p.stderr:
        raise Fail(f"not refused for its number: {p.returncode}: {p.stderr.decode()}")
    for i in range(2):
        pid = cpx.restore_detached(image, "--pid=new")
        check_goes_on(directory, name)
        os.unlink(image)
        dump_idle(pid, image, "--kill")
        procs.wait_until(lambda: not procs.is_alive(pid), 10)
    for fd in held:
        os.close(fd)


def main():
    directory = os.environ["DIR"]
    procs.become_subreaper()
    check_refused_pipes(directory)
    check_own_devpts(directory, os.path.join(directory, "image"))


sys.exit(main())
