#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is refused whatever its state, of that which this machine lets us open: each by its name and with its reason."""
import ctypes
import os
import struct
import subprocess
import sys

import cpx
from sandbox import Fail

LIBC = ctypes.CDLL(None, use_errno=True)

# name in the refusal: what it must say; the call that makes one, or a path to open
KINDS = {
    "memfd_secret": ("nobody but its tasks may read it", lambda: call(447, 0)),
    "userfaultfd": ("faults that wait in it", lambda: call(323, os.O_CLOEXEC | 1)),
    "perf event": ("its counters and its ring", lambda: perf()),
    "BPF object": ("programs, maps and links are in the kernel", lambda: bpf()),
    "landlock ruleset": ("does not tell what is in it", lambda: call(444, struct.pack("Q", 1), 8, 0)),
    "mount context": ("does not tell what is in it", lambda: call(430, b"tmpfs", 0)),
    "TCP socket": ("does not know how to carry it", lambda: socket(2, 1)),
    "UDP socket": ("does not know how to carry it", lambda: socket(10, 2)),
    "packet socket": ("does not know how to carry it", lambda: socket(17, 3)),
    "vsock socket": ("does not know how to carry it", lambda: socket(40, 1)),
    "crypto socket": ("does not know how to carry it", lambda: socket(38, 5)),
    "/dev/kvm": ("virtual machines (KVM)", None),
    "/dev/fuse": ("server side of a file system (FUSE)", None),
    "/dev/net/tun": ("network interface (TUN/TAP)", None),
    "/dev/kmsg": ("kernel log, in which a reader has a place", None),
    "/dev/loop-control": ("driver may hold state", None),
    "/dev/btrfs-control": ("driver may hold state", None),
    "block device /dev/loop0": ("what is on it is not the tree's", "/dev/loop0"),
}


def call(number, *args):
    r = LIBC.syscall(number, *[ctypes.create_string_buffer(a, len(a) + 1) if isinstance(a, bytes) else a for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r


def perf():
    """A software counter of ourselves, without the kernel's share."""
    return call(298, struct.pack("<IIQQQQQ", 1, 128, 0, 0, 0, 0, 1 << 5 | 1 << 6) + bytes(80), 0, -1, -1, 0)


def bpf():
    return call(321, 0, struct.pack("<IIII", 2, 4, 8, 1) + bytes(56), 72)


def socket(family, kind):
    return call(41, family, kind, 0)


def open_all():
    """Number of descriptor and name of each that we may have."""
    fds = {}
    for name, (_, make) in KINDS.items():
        try:
            fds[name] = make() if callable(make) else os.open(make or name, os.O_RDONLY)
        except OSError as e:
            print(f"{name}: {e}")
    return fds


def main():
    fds = open_all()
    null = subprocess.DEVNULL
    target = subprocess.Popen(["sleep", "100"], pass_fds=fds.values(), stdin=null, stdout=null, stderr=null)
    for name, fd in fds.items():
        os.close(fd)
    p = subprocess.run([cpx.path(), "check", str(target.pid)], stdin=null, stderr=subprocess.PIPE)
    text = p.stderr.decode()
    print(text)
    for name, fd in fds.items():
        line = [x for x in text.splitlines() if f": fd {fd} ({name}): cannot be checkpointed: " in x]
        if len(line) != 1 or KINDS[name][0] not in line[0]:
            raise Fail(f"{name}: {line or 'not refused'}")
    if p.returncode != 3 or len(text.splitlines()) != len(fds):
        raise Fail(f"exit {p.returncode}, {len(text.splitlines())} refusals of {len(fds)}")
    target.kill()
    target.wait()


if __name__ == "__main__":
    sys.exit(main())
