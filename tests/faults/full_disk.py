#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file system that is too small for the image, with and without an older image on it: an error, no partial file,
the older image whole, the target unharmed."""
import ctypes
import os
import subprocess
import sys

import cpx
import procs
from faults import Target

CLONE_NEWNS, MS_PRIVATE, MS_REC = 0x20000, 1 << 18, 1 << 14


def mount_small(directory, size):
    """In a mount namespace of our own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) < 0 or libc.mount(b"none", b"/", None, MS_PRIVATE | MS_REC, None) < 0:
        print(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        sys.exit(77)
    os.mkdir(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "cpx-test", directory], check=True)


def main():
    if os.geteuid():
        print("mounting a small file system needs root")
        return 77
    procs.become_subreaper()
    small = os.path.abspath("small")
    mount_small(small, "1m")  # first: cpx and its target share the mount namespace
    target = Target("mem_huge_transparent")
    image = os.path.join(small, "image")
    for options in ([], ["--compress=none"], ["--compress=lz4"], ["--kill"]):
        cpx.run("dump", target.pid, "-o", image, *options, status=1)
        assert os.listdir(small) == [], os.listdir(small)
        target.check_unharmed(f"full disk, {options}")
    with open(image, "w") as f:
        f.write("an older image")
    cpx.run("dump", target.pid, "-o", image, status=1)
    assert os.listdir(small) == ["image"] and procs.read(image) == "an older image"
    target.check_unharmed("full disk with an older image")
    target.finish()
    return 0


sys.exit(main())
