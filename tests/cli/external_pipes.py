#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""A pipe whose other end is outside of the tree: refused by name, unless --external-pipe says what to put there."""
import os
import select
import subprocess
import sys
import time

import cpx
import procs
from sandbox import Fail

# Answers each line that it reads; what was said before the dump is not said again.
TARGET = r"""
import fcntl, os, select, sys
ready = select.epoll() if sys.argv[1:] == ["epoll"] else None
if ready:
    ready.register(1, select.EPOLLOUT)
os.write(1, b"ready\n")
while True:
    line = os.read(0, 1000)
    if line == b"sleep\n":
        os.read(os.pipe()[0], 1)
    os.write(1, b"got %r\n" % line)
    if not line:
        break
os.write(1, b"end, flags %o\n" % (fcntl.fcntl(1, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_NONBLOCK)))
"""
PIPE = subprocess.PIPE


def expect(got, wanted, what):
    if got != wanted:
        raise Fail(f"{what}: {got!r}, not {wanted!r}")


def start(*args, **kw):
    p = subprocess.Popen([sys.executable, "-c", TARGET, *args], **{"stdin": PIPE, "stdout": PIPE, **kw})
    if kw.get("stdout", PIPE) == PIPE:
        expect(p.stdout.readline(), b"ready\n", "the target")
    return p


def ino(pid, fd):
    return os.stat(f"/proc/{pid}/fd/{fd}").st_ino


def refused(*args, says, **kw):
    p = subprocess.run([cpx.path(), *args], stdin=kw.pop("stdin", subprocess.DEVNULL), stderr=PIPE, **kw)
    text = p.stderr.decode()
    if p.returncode != 3 or not all(part in text for part in says):
        raise Fail(f"cpx {' '.join(args)}: exit {p.returncode}, not 3 with {says}: {text}")


def kill(p, image, *options):
    cpx.dump(p.pid, image, "--kill", *options)
    p.wait()
    cpx.reap_dead_tree(p.pid)


def restored(image, *options, **kw):
    """In the foreground; what the target says."""
    p = subprocess.run([cpx.path(), "restore", image, *options], stdout=kw.pop("stdout", PIPE), stderr=PIPE,
                       timeout=cpx.TIMEOUT, **{"stdin": subprocess.DEVNULL, **kw})
    if p.returncode:
        raise Fail(f"restore {options}: exit {p.returncode}: {p.stderr.decode()}")
    return p.stdout


def source(data):
    r, w = os.pipe()
    os.write(w, data)
    os.close(w)
    return r


def check_names():
    """The outside process, by PID and name, and the option; the target goes on unharmed."""
    p = start()
    me = f"process {os.getpid()} ({procs.read('/proc/self/comm').strip()})"
    for fd in 0, 1:
        refused("dump", str(p.pid), "-o", "no", says=[f"fd {fd} (pipe)", me, f"pipe:[{ino(p.pid, fd)}]", "--external-pipe"])
    refused("check", str(p.pid), says=[me])
    cpx.run("check", str(p.pid), "--external-pipe=inherit")
    cpx.dump(p.pid, "kept", "--external-pipe=null")
    p.stdin.write(b"on\n")
    p.stdin.flush()
    expect(p.stdout.readline(), b"got b'on\\n'\n", "after a dump")
    p.stdin.close()
    expect(p.stdout.read(), b"got b''\nend, flags 1\n", "the original")
    p.wait()
    info = cpx.run("info", "kept")
    if info.count(f"the other end with {os.getpid()} (") != 2 or info.count("at restore: null") != 2:
        raise Fail("info: " + info)
    restored("kept")


def check_override():
    """The image says null; the user says otherwise, for all pipes or for one."""
    p = start()
    numbers = ino(p.pid, 0), ino(p.pid, 1)
    kill(p, "image", "--external-pipe=null")
    expect(restored("image", "--external-pipe=inherit", stdin=source(b"own numbers")),
           b"got b'own numbers'\ngot b''\nend, flags 1\n", "inherit")
    expect(restored("image", "--external-pipe=inherit", "--pid=new", stdin=source(b"namespace")),
           b"got b'namespace'\ngot b''\nend, flags 1\n", "inherit in a namespace")
    r = source(b"another")
    expect(restored("image", "--external-pipe=inherit:1", f"--external-pipe=pipe:[{numbers[0]}]=inherit:{r}", pass_fds=[r]),
           b"got b'another'\ngot b''\nend, flags 1\n", "inherit:FD")
    out = os.path.abspath("lines")
    with open(out, "w") as f:
        f.write("before\n")
    for _ in range(2):
        restored("image", f"--external-pipe=pipe:[{numbers[1]}]=file:{out}", f"--external-pipe=pipe:[{numbers[0]}]=null")
    expect(procs.read(out), "before\n" + 2 * "got b''\nend, flags 1\n", "file: to write")
    expect(restored("image", "--external-pipe=inherit", f"--external-pipe=pipe:[{numbers[0]}]=file:{out}"),
           f"got {procs.read(out).encode()!r}\ngot b''\nend, flags 1\n".encode(), "file: to read")


def check_foreign():
    """Another user's pipe cannot be opened again, only be shared."""
    r, w = os.pipe()
    os.fchmod(w, 0)
    restored("image", "--external-pipe=inherit", stdin=source(b"foreign"), stdout=w)
    expect(os.read(r, 100), b"got b'foreign'\ngot b''\nend, flags 1\n", "another user's pipe")
    os.close(r)
    os.close(w)


def check_detached():
    out = os.path.abspath("detached")
    refused("restore", "image", "-d", "--external-pipe=inherit:77", says=["fd 0 (pipe)", "fd 1 (pipe)", "descriptor 77"])
    refused("restore", "image", "-d", "--external-pipe=inherit:0", says=["not open for writing"], stdin=source(b""))
    refused("restore", "image", "-d", "--external-pipe=file:/no/such/file", says=["cannot be made", "cannot be opened"])
    refused("restore", "image", "-d", "--external-pipe=pipe:[1]=null", says=["pipe:[1]", "no pipe of the image"])
    with open("image", "rb") as f:
        refused("restore", "-", "--external-pipe=inherit:0", says=["where the image comes from"], stdin=f)
    r, w = os.pipe()
    with open(out, "wb") as f:
        pid = int(subprocess.run([cpx.path(), "restore", "image", "-d", f"--external-pipe=inherit:{r}",
                                  f"--external-pipe=pipe:[{ino_of('image', 1)}]=inherit:{f.fileno()}"], stdout=PIPE,
                                 pass_fds=[r, f.fileno()], check=True).stdout)
    os.close(r)
    os.write(w, b"hello")
    if not procs.wait_until(lambda: "hello" in procs.read(out), 10):
        raise Fail("nothing comes from a detached restore")
    os.close(w)
    if not procs.wait_until(lambda: not procs.is_alive(pid), 10) or "end" not in procs.read(out):
        raise Fail("the end of the writer is not seen: " + procs.read(out))


def ino_of(image, fd):
    line = [x for x in cpx.run("info", image).splitlines() if f", fd {fd} of" in x][0]
    return line.split("[")[1].split("]")[0]


def check_unread():
    """Data that the tree has not read: carried where nothing follows it, else refused."""
    p = start()
    p.stdin.write(b"sleep\n")
    p.stdin.flush()
    procs.wait_until(lambda: len(os.listdir(f"/proc/{p.pid}/fd")) == 5, 10)
    p.stdin.write(b"unread")
    p.stdin.flush()
    refused("dump", str(p.pid), "-o", "no", "--external-pipe=inherit", says=["fd 0 (pipe)", "holds 6 bytes", "null"])
    cpx.dump(p.pid, "unread", "--external-pipe=null")
    p.kill()
    p.wait()
    refused("restore", "unread", "--external-pipe=inherit", says=["6 bytes in it were not read yet"])
    pid = int(cpx.run("restore", "unread", "-d"))
    with open(f"/proc/{pid}/fd/0", "rb") as f:
        expect((f.read(), f.read()), (b"unread", b""), "what was in it")
    os.kill(pid, 9)
    cpx.reap_dead_tree(pid)


def check_epoll():
    p = start("epoll")
    kill(p, "watched", "--external-pipe=null")
    refused("restore", "watched", says=["fd 1 (pipe)", "an epoll watches it"])
    refused("restore", "watched", "--external-pipe=file:/tmp/log", says=["an epoll watches it"])
    expect(restored("watched", "--external-pipe=inherit"), b"got b''\nend, flags 1\n", "with an epoll")


def check_fifo():
    """Its path may be given; nobody at its other end is an error, not a restore into nothing."""
    os.mkfifo("fifo")
    path = os.path.abspath("fifo")
    r = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    w = os.open(path, os.O_WRONLY)
    p = start(stdout=w)
    os.close(w)
    select.select([r], [], [])
    expect(os.read(r, 100), b"ready\n", "FIFO")
    refused("dump", str(p.pid), "-o", "no", says=["fd 1 (pipe)", f"process {os.getpid()}", path])
    kill(p, "fifo.image", "--external-pipe=null", f"--external-pipe=pipe:[{os.stat(path).st_ino}]=file:{path}")
    restored("fifo.image")
    expect(os.read(r, 100), b"got b''\nend, flags 1\n", "FIFO")
    os.close(r)
    p = subprocess.run([cpx.path(), "restore", "fifo.image"], stdin=subprocess.DEVNULL, stderr=PIPE)
    if p.returncode != 1 or b"No such device" not in p.stderr:
        raise Fail(f"a FIFO that nobody reads: exit {p.returncode}: {p.stderr}")


def check_both_ends():
    """Of which the tree has both ends: there is nothing that could stand for it."""
    r, w = os.pipe()
    p = start(pass_fds=[r, w])
    refused("dump", str(p.pid), "-o", "no", "--external-pipe=null", says=[f"fd {r} (pipe)", f"process {os.getpid()}"])
    p.kill()
    p.wait()
    os.close(r)
    os.close(w)


def main():
    os.chdir(os.environ["DIR"])
    procs.become_subreaper()
    for check in (check_names, check_override, check_foreign, check_detached, check_unread, check_epoll, check_fifo,
                  check_both_ends):
        started = time.monotonic()
        check()
        print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
