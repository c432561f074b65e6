#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""Files that are not as they were at the dump: renamed, grown, shrunk, replaced, reinstalled, written to."""
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import cpx
import procs
from sandbox import Fail

# Has a file open to read and one to write, and one mapped; tells what it sees when it is told to.
TARGET = r"""
import mmap, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
text, log = os.open("text", os.O_RDONLY), os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
private = mmap.mmap(os.open("data", os.O_RDONLY), 8192, mmap.MAP_PRIVATE, mmap.PROT_READ)
shared = mmap.mmap(os.open("shared", os.O_RDWR), 4096)
os.read(text, 4)
open("ready", "w").close()
signal.sigwait([signal.SIGUSR1])
os.write(log, b"later\n")
answer = [os.read(text, 100), os.readlink(f"/proc/self/fd/{log}").split("/")[-1], private[4096:4100], shared[:6]]
open("part", "w").write(repr(answer))
os.rename("part", "answer")
"""


def expect(got, wanted, what):
    if got != wanted:
        raise Fail(f"{what}: {got!r}, not {wanted!r}")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def fresh():
    """The files as they are at the dump."""
    for name in os.listdir("."):
        os.unlink(name)
    write("text", b"the first text")
    write("log", b"before\n")
    write("data", b"x" * 4096 + b"data" + b"x" * 4092)
    write("shared", b"shared" + bytes(4090))


def replace(path, data):
    """By another file, as editors and package managers do it."""
    write(path + ".new", data)
    os.rename(path + ".new", path)


def start(command, ready="ready"):
    null = subprocess.DEVNULL
    p = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
    if not procs.wait_until(lambda: os.path.exists(ready), 10):
        raise Fail("the target does not get ready")
    return p


def kill(p):
    cpx.dump(p.pid, "../image", "--kill")
    p.wait()
    cpx.reap_dead_tree(p.pid)


def end(pid):
    os.kill(pid, signal.SIGKILL)
    cpx.reap_dead_tree(pid)


def refused(path, *why):
    p = subprocess.run([cpx.path(), "restore", "../image", "-d"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    text = p.stderr.decode()
    lines = [x for x in text.splitlines() if f"--allow-changed={os.path.abspath(path)}" in x]
    if p.returncode != 3 or len(lines) != len(text.splitlines()) or not any(all(w in x for w in why) for x in lines):
        raise Fail(f"exit {p.returncode}, not 3 for {path} with {why}: {text}")


def seen(*options):
    pid = int(cpx.run("restore", "../image", "-d", *options))
    os.kill(pid, signal.SIGUSR1)
    if not procs.wait_until(lambda: os.path.exists("answer"), 10):
        raise Fail("no answer")
    cpx.reap_dead_tree(pid)
    with open("answer") as f:
        answer = eval(f.read())
    os.unlink("answer")
    return answer


def begin():
    fresh()
    kill(start([sys.executable, "-c", TARGET]))


def check_descriptors():
    begin()
    write("text", b"the grown text, which is longer")
    write("shared", b"SHARED")
    os.truncate("shared", 4096)
    expect(seen(), [b"grown text, which is longer", "log", b"data", b"SHARED"], "grown")
    begin()
    os.rename("log", "log.1")
    write("log", b"new\n")
    expect(seen(), [b"first text", "log.1", b"data", b"shared"], "renamed")
    expect((procs.read("log.1"), procs.read("log")), ("before\nlater\n", "new\n"), "the renamed log")
    begin()
    replace("text", b"THE OTHER TEXT!")
    refused("text", "not the one that was open")
    expect(seen("--allow-changed=text")[0], b"OTHER TEXT!", "accepted")
    begin()
    os.truncate("text", 2)
    expect(seen()[0], b"", "shrunk")


def check_copies():
    """A copy with its time kept, as from a backup."""
    begin()
    for name in "text", "log", "data", "shared":
        shutil.copy2(name, name + ".copy")
        os.rename(name + ".copy", name)
    expect(seen(), [b"first text", "log", b"data", b"shared"], "copied")


def check_mapped_data():
    begin()
    now = os.stat("data").st_mtime_ns
    os.utime("data", ns=(now, now + 10**9))
    refused("data", "this file is mapped", "written to")
    expect(seen(f"--allow-changed={os.path.abspath('data')}")[2], b"data", "accepted")
    os.utime("data", ns=(now, now))
    replace("data", b"y" * 8192)
    refused("data", "another time")
    replace("data", b"y" * 8000)
    refused("data", "another size")
    os.unlink("data")
    p = subprocess.run([cpx.path(), "restore", "../image"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if p.returncode != 3 or b"missing" not in p.stderr:
        raise Fail(f"a mapped file that is gone: exit {p.returncode}: {p.stderr}")


def build_id(path):
    out = subprocess.run(["readelf", "-n", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return bytes.fromhex(out.decode().split("Build ID:")[1].split()[0])


def check_code():
    """A program, while it runs and after: reinstalled, of another build, patched."""
    fresh()
    program = shutil.copy(os.path.join(os.environ["BIN"], "canary"), "program")
    with open(program, "rb") as f:
        code = f.read()
    os.mkdir("../state")
    kill(start([os.path.abspath(program), os.path.abspath("../state")], "../state/ready"))
    replace(program, code)
    os.chmod(program, 0o755)
    end(int(cpx.run("restore", "../image", "-d")))
    old = build_id(program)
    replace(program, code.replace(old, bytes(len(old))))
    refused(program, "this file is mapped", "another build id")
    os.chmod(program, 0o755)
    end(int(cpx.run("restore", "../image", "-d", "--allow-changed", program)))
    replace(program, code + b"more")
    refused(program, "another size")


def patch(program):
    """False as long as somebody runs it: a twin may end a moment after the dump."""
    try:
        with open(program, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(b"!")
    except OSError as e:
        if e.errno != errno.ETXTBSY:
            raise
        return False
    return True


def check_patched():
    """In place, so that it is the same file."""
    fresh()
    shutil.rmtree("../state")
    os.mkdir("../state")
    program = shutil.copy(os.path.join(os.environ["BIN"], "canary"), "program")
    kill(start([os.path.abspath(program), os.path.abspath("../state")], "../state/ready"))
    procs.wait_until(lambda: patch(program), 10)
    refused(program, "written to")


def main():
    os.chdir(os.environ["DIR"])
    os.mkdir("files")
    os.chdir("files")
    procs.become_subreaper()
    if not shutil.which("readelf"):
        print("needs readelf")
        return 77
    for check in check_descriptors, check_copies, check_mapped_data, check_code, check_patched:
        started = time.monotonic()
        check()
        print(f"{check.__name__}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
