#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 100
"""Many trees of one image: restore --copies, and what belongs to it."""
import json
import os
import signal
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

SIZE = 12 << 20

# Two tasks: the child has its parent's memory but for one page. At SIGUSR1 the parent looks who it is, whether
# all memory is as it was, and writes to everything that it has open.
TARGET = r"""
import os, signal, sys
size = %d
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
page = bytes(range(256)) * 16
data = bytearray(page * (size // 4096))
log = os.open("journal", os.O_RDWR | os.O_CREAT)
os.write(log, b"before\n")
reader = os.open("journal", os.O_RDONLY)
down, up = os.pipe(), os.pipe()
if os.fork() == 0:
    data[4096] = 77
    number = os.read(down[0], 100)
    ok = data[4096:8192] == b"M" + page[1:] and data[8192:] == page * (size // 4096 - 2)
    data[:] = bytes([int(number)]) * size
    os.write(up[1], b"good" if ok else b"bad")
    os._exit(0)
os.close(os.open("ready", os.O_CREAT))
signal.sigwait({signal.SIGUSR1})
number = open("id").read()
os.write(down[1], number.encode())
if os.read(up[0], 100) != b"good" or data != page * (size // 4096):
    sys.exit(99)
os.write(log, b"clone " + number.encode())
os.write(1, b"out " + number.encode())
if os.read(reader, 1000) != b"before\nclone " + number.encode() or os.read(0, 1):
    sys.exit(98)
os.wait()
sys.exit(int(number))
""" % SIZE


def expect(got, wanted, what):
    if got != wanted:
        raise Fail(f"{what}: {got!r}, not {wanted!r}")


def make_image(name, *options, **kw):
    null = subprocess.DEVNULL
    p = subprocess.Popen([sys.executable, "-c", TARGET], **{"stdin": null, "stderr": null, **kw})
    if not procs.wait_until(lambda: os.path.exists("ready"), 20):
        raise Fail("the target does not get ready")
    os.unlink("ready")
    cpx.dump(p.pid, name, "--kill", *options)
    p.wait()


def copies(n, *options, status=1):
    """The JSON result of a restore of copies that know who they are."""
    return json.loads(cpx.run("restore", "image", "--copies", n, "--json", "--clone-id-file=id",
                              "--clone-signal=usr1", *options, status=status))


def check_all():
    """Each has its number, memory, files and streams of its own."""
    clones = copies(5, "--output-dir=all")["clones"]
    expect([(c["id"], c["restored"], c["exit_status"]) for c in clones], [(i, True, i) for i in range(1, 6)], "the ends")
    expect(len({c["pid"] for c in clones}), 5, "PIDs")
    for i in range(1, 6):
        expect(procs.read(f"all/{i}{os.path.abspath('journal')}"), f"before\nclone {i}\n", f"the file of clone {i}")
        expect(procs.read(f"all/{i}/stdout"), f"out {i}\n", f"the output of clone {i}")
    expect(procs.read("journal"), "before\n", "the file that they were copied from")
    expect(procs.read("id"), "", "the number of nobody")


def check_refused():
    out = subprocess.run([cpx.path(), "restore", "image", "--copies=2"], stderr=subprocess.PIPE).stderr.decode()
    if "fd 3 (regular file)" not in out or os.path.abspath("journal") not in out or "--output-dir" not in out:
        raise Fail(f"a file that is open for writing: {out!r}")
    cpx.run("restore", "image", "--copies=2", "--output-dir=all", status=3)
    json_of = json.loads(cpx.run("restore", "image", "--copies=2", "--json", "--shared-file=journal", "--on-restore=false", status=1))
    expect([c["restored"] for c in json_of["clones"]], [False, False], "not refused, but not run")
    for options in [["--output-dir=x"], ["--copies=0"], ["--copies=2", "--pid=same"], ["--copies=2", "--clone-signal=HUH"]]:
        cpx.run("restore", "image", *options, status=2)


def check_hook():
    """In the clone's namespaces, before it runs; one that fails fails that clone alone."""
    text = cpx.run("restore", "image", "--copies=3", "--clone-id-file=id", "--clone-signal=10", "--output-dir=hook",
                   "--on-restore", "kill -0 $CPX_ROOT_PID && test $(cat id) = $CPX_CLONE_ID && "
                   "test $(cat /proc/1/comm) = cpx-clone-$CPX_CLONE_ID && test $CPX_CLONE_ID != 2", status=1)
    lines = [line.split(maxsplit=2) for line in text.splitlines()]
    expect([(line[0], line[2]) for line in lines],
           [("CLONE", "END"), ("1", "exit status 1"), ("2", "not restored: the command of --on-restore ended with exit status 1"),
            ("3", "exit status 3")], "the table")


def pss(pid):
    return sum(int(line.split()[1]) for line in procs.read(f"/proc/{pid}/smaps_rollup").splitlines()
               if line.startswith("Pss:")) << 10


def check_detached():
    """PIDs as seen from outside; the memory is shared until it is written to."""
    pids = [int(p) for p in cpx.run("restore", "image", "-d", "--copies=12", "--output-dir=detached", "--clone-id-file=id").split()]
    try:
        expect(len({os.readlink(f"/proc/{p}/ns/pid") for p in pids}), 12, "PID namespaces")
        expect([procs.is_alive(p) for p in pids], [True] * 12, "who runs")
        if pss(pids[5]) > SIZE / 2:
            raise Fail(f"a clone's share of the memory is {pss(pids[5])} bytes of {SIZE}")
        image = cpx.dump(pids[7], "again")
        expect(image["tasks"], 2, "a dump of a clone")
    finally:
        for p in pids:
            os.kill(p, signal.SIGKILL)


def in_foreground(directory):
    p = subprocess.Popen([cpx.path(), "restore", "image", "--copies=3", "--clone-id-file=id", f"--output-dir={directory}"],
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    if not procs.wait_until(lambda: len(roots(p.pid)) == 3, 10):
        raise Fail("three clones do not come to run")
    return p


def roots(cpx_pid):
    """Tasks that are out of the hands of cpx, whose parents are the clones' inits."""
    found = []
    for pid in procs.tree(cpx_pid)[1:]:
        if procs.read(f"/proc/{pid}/comm").startswith("cpx-clone-") and not os.listdir(f"/proc/{pid}/fd")[4:]:
            found += [c for c in procs.children(pid) if "TracerPid:\t0" in procs.read(f"/proc/{c}/status")]
    return found


def check_signals():
    """What is sent to cpx goes to all of them; its own end is theirs."""
    p = in_foreground("term")
    p.terminate()
    text = p.communicate(timeout=cpx.TIMEOUT)[0].decode()
    expect(p.returncode, 1, "exit status after SIGTERM")
    expect(text.count("killed by signal 15"), 3, f"in {text!r}")
    p = in_foreground("kill")
    pids = roots(p.pid)
    p.kill()
    p.wait()
    if not procs.wait_until(lambda: not any(map(procs.is_alive, pids)), 10):
        raise Fail("clones go on when cpx was killed")


def check_terminal():
    """Every terminal is a file of the clone's."""
    master, slave = os.openpty()
    make_image("image", stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    copies(2, "--output-dir=terminal")
    expect([procs.read(f"terminal/{i}/stdout") for i in (1, 2)], ["out 1\n", "out 2\n"], "in place of the terminal")
    os.close(master)


def check_stream():
    """An image from a pipe, and clones that all end well."""
    p = subprocess.Popen([sys.executable, "-c", "import os; open('r', 'w').close(); os.rename('r', 'ready'); os.read(0, 1)"], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    procs.wait_until(lambda: os.path.exists("ready"), 10)
    cpx.dump(p.pid, "quiet", "--kill", "--external-pipe=null")
    p.wait()
    r, w = os.pipe()
    reader = subprocess.Popen(["cat", "quiet"], stdout=w)
    os.close(w)
    text = cpx.run("restore", "-", "--copies=2", stdin=r)
    expect(text.count("exit status 0"), 2, "ends")
    reader.wait()
    expect(cpx.run("restore", "quiet", "--on-restore", "test $CPX_ROOT_PID = %d && ! [ $CPX_CLONE_ID ]" % p.pid), "", "one tree")
    cpx.run("restore", "quiet", "--pid=new", "--on-restore", "exit 3", status=1)


def main():
    r, w = os.pipe()
    make_image("image", "--external-pipe=null", stdout=w)
    os.close(r)
    os.close(w)
    check_all()
    check_refused()
    check_hook()
    check_detached()
    check_signals()
    check_terminal()
    check_stream()
    return 0


if __name__ == "__main__":
    sys.exit(main())
