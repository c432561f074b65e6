#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""Subjects about files, with their files on tmpfs, overlayfs (programs and libraries, too) and bind mounts."""
import os
import shutil
import subprocess
import sys
import time

import procs
import subjects
from sandbox import Fail, Skip

NAMES = ("fd_regular", "fd_deleted", "fd_tmpfile", "fd_hardlink", "fd_deleted_dir", "fd_fifo", "fd_locks", "mem_file_private",
         "mem_file_shared", "mem_file_deleted", "attr_cwd", "attr_identity", "fd_inotify")
# What is refused there.
REFUSED = {("overlay", "fd_hardlink"): "only a cpx with cap_dac_read_search"}


def run(*command):
    subprocess.run(command, check=True)


def mount_all():
    for name in "tmpfs", "overlay", "bind", "lower/bin", "upper", "work", "source":
        os.makedirs(name)
    for name in os.listdir(os.environ["BIN"]):
        shutil.copy(os.path.join(os.environ["BIN"], name), "lower/bin")
    run("mount", "-t", "tmpfs", "tmpfs", "tmpfs")
    run("mount", "--bind", "source", "bind")
    shutil.copytree("lower/bin", "tmpfs/bin")
    shutil.copytree("lower/bin", "source/bin")
    over = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "overlay"])
    return ("tmpfs", "bind", "overlay") if over.returncode == 0 else ("tmpfs", "bind")


def play(place, entry, mode):
    directory = os.path.abspath(os.path.join(place, f"{entry.name}-{mode}"))
    os.mkdir(directory)
    with open(os.path.join(directory, "log"), "w"):
        pass
    s = subjects.Subject(entry, directory, os.path.abspath(os.path.join(place, "bin", entry.name)))
    subjects.MODES[mode](s)
    s.finish()


def attempt(place, entry, mode):
    refusal = REFUSED.get((place, entry.name))
    try:
        play(place, entry, mode)
    except Skip as e:
        print(f"skipped: {e}")
    except Fail as e:
        if not refusal or "exit 3" not in str(e) or refusal not in str(e):
            raise
        procs.kill_descendants()
    else:
        if refusal:
            raise Fail(f"{place}: {entry.name} is not refused")


def main():
    if os.geteuid():
        print("needs root, to mount")
        return 77
    if sys.argv[1:] != ["inside"]:
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, "inside"])
    os.chdir(os.environ["DIR"])
    os.mkdir("mounts")
    os.chdir("mounts")
    procs.become_subreaper()
    entries = {e.name: e for e in subjects.table()}
    for place in mount_all():
        for name in NAMES:
            for mode in ("restore", "newns") if place == "overlay" else ("restore",):
                started = time.monotonic()
                print(f"{place}: {name}/{mode}", flush=True)
                attempt(place, entries[name], mode)
                print(f"{time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
