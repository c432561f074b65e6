#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Deleted files and directories that cannot be carried or made again are refused by name."""
import ctypes
import os
import subprocess
import sys

import cpx
import procs
from sandbox import Fail

LIBC = ctypes.CDLL(None, use_errno=True)

LINKED = r"""
import os, time
fd = os.open("name", os.O_RDWR | os.O_CREAT, 0o600)
os.link("name", "elsewhere/name")
os.unlink("name")
os.close(os.open("ready", os.O_CREAT))
time.sleep(99)
"""
DIRECTORY = r"""
import os, time
os.mkdir("above/dir")
fd = os.open("above/dir", os.O_RDONLY)
os.rmdir("above/dir")
os.close(os.open("ready", os.O_CREAT))
time.sleep(99)
"""


def start(program):
    null = subprocess.DEVNULL
    p = subprocess.Popen([sys.executable, "-c", program], stdin=null, stdout=null, stderr=null)
    if not procs.wait_until(lambda: os.path.exists("ready"), 10):
        raise Fail("the target does not get ready")
    os.unlink("ready")
    return p


def refused(*args, says, deny=""):
    p = subprocess.run([cpx.path(), *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ, CPX_DENY=deny))
    text = p.stderr.decode()
    if p.returncode != 3 or not all(part in text for part in says) or len(text.splitlines()) != 1:
        raise Fail(f"cpx {' '.join(args)}: exit {p.returncode}, not 3 with {says}: {text}")


def check_hardlink(is_root):
    p = start(LINKED)
    says = ["fd 3 (regular file)", f"'{os.path.abspath('name')}' was deleted", "only a cpx with cap_dac_read_search"]
    refused("dump", str(p.pid), "-o", "no", says=says, deny="file_handle")
    if is_root:
        cpx.dump(p.pid, "image", "--kill")
        p.wait()
        cpx.reap_dead_tree(p.pid)
        pid = int(cpx.run("restore", "image", "-d"))
        if os.readlink(f"/proc/{pid}/fd/3") != os.path.abspath("name") + " (deleted)" or os.path.exists("name"):
            raise Fail("a restored file is not as it was: " + os.readlink(f"/proc/{pid}/fd/3"))
        os.kill(pid, 9)
        cpx.reap_dead_tree(pid)
        os.unlink("elsewhere/name")
        refused("restore", "image", "-d", says=[os.path.abspath("name"), "which is gone now, too"])
        return
    refused("dump", str(p.pid), "-o", "no", says=says)
    p.kill()
    p.wait()


WRITE_ONLY = r"""
import os, time
fd = os.open("secret", os.O_WRONLY | os.O_CREAT, 0o200)
os.write(fd, b"precious")
os.unlink("secret")
os.close(os.open("ready", os.O_CREAT))
time.sleep(99)
"""


SPARSE = r"""
import os, sys, time
fd = os.open("sparse", os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b"begin")
os.pwrite(fd, b"end", 1 << 40)
os.fchmod(fd, 0)
os.unlink("sparse")
os.close(os.open("ready", os.O_CREAT))
time.sleep(99)
"""


def check_sparse():
    """Its holes are not read, though it cannot be opened and its position not be moved."""
    p = start(SPARSE)
    frozen = cpx.dump(p.pid, "image", "--kill")["frozen_us"]
    p.wait()
    cpx.reap_dead_tree(p.pid)
    pid = int(cpx.run("restore", "image", "-d"))
    st = os.stat(f"/proc/{pid}/fd/3")
    fd = os.pidfd_open(pid)
    own = LIBC.syscall(438, fd, 3, 0)
    if (st.st_size, st.st_mode & 0o777, os.pread(own, 5, 0), os.pread(own, 3, 1 << 40)) != ((1 << 40) + 3, 0, b"begin", b"end"):
        raise Fail(f"a sparse file is not as it was: {st}")
    if st.st_blocks > 1000 or frozen > 5000000:
        raise Fail(f"{st.st_blocks} blocks, frozen for {frozen} us")
    os.close(own)
    os.kill(pid, 9)
    cpx.reap_dead_tree(pid)


def check_unreadable(is_root):
    """Of which an ordinary user can see the size, but not the content."""
    p = start(WRITE_ONLY)
    if not is_root:
        refused("dump", str(p.pid), "-o", "no", says=["deleted file", "8 bytes", "mode 200"])
    else:
        cpx.dump(p.pid, "image")
    p.kill()
    p.wait()
    if is_root:
        cpx.reap_dead_tree(p.pid)
        pid = int(cpx.run("restore", "image", "-d"))
        if procs.read(f"/proc/{pid}/fd/3") != "precious":
            raise Fail("content is lost")
        os.kill(pid, 9)
        cpx.reap_dead_tree(pid)


def check_directory(is_root):
    p = start(DIRECTORY)
    cpx.dump(p.pid, "image", "--kill")
    p.wait()
    cpx.reap_dead_tree(p.pid)
    os.chmod("above", 0o555)
    if not is_root:
        refused("restore", "image", "-d", says=["fd 3 (directory)", "not allowed there", os.path.abspath("above")])
    os.chmod("above", 0o755)
    os.rmdir("above")
    pid = int(cpx.run("restore", "image", "-d"))
    if os.path.exists("above") or os.readlink(f"/proc/{pid}/fd/3") != os.path.abspath("above/dir") + " (deleted)":
        raise Fail("a restored directory is not as it was: " + os.readlink(f"/proc/{pid}/fd/3"))
    os.kill(pid, 9)


def main():
    os.chdir(os.environ["DIR"])
    os.mkdir("elsewhere")
    os.mkdir("above")
    procs.become_subreaper()
    check_hardlink(os.geteuid() == 0)
    check_sparse()
    check_unreadable(os.geteuid() == 0)
    check_directory(os.geteuid() == 0)


if __name__ == "__main__":
    sys.exit(main())
