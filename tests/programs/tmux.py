#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""tmux with a shell in it holds a listening Unix socket, which cannot be carried yet: refused by name, and nothing
happens to it."""
import os
import shutil
import subprocess
import sys

import cpx
import procs
from programs import ENVIRONMENT
from sandbox import Fail


def tmux(directory, *args):
    return subprocess.run(["tmux", "-L", "cpx", "-f", "/dev/null", *args], check=True, stdout=subprocess.PIPE,
                          env=ENVIRONMENT | {"TMUX_TMPDIR": directory, "HOME": directory, "SHELL": "/bin/sh"},
                          stdin=subprocess.DEVNULL, timeout=20, cwd=directory).stdout.decode().strip()


def descriptors(pid):
    return {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def refusal(*args):
    p = subprocess.run([cpx.path(), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=cpx.TIMEOUT)
    text = p.stdout.decode()
    print(f"$ {args}\n{text}[exit {p.returncode}]")
    if p.returncode != 3:
        raise Fail(f"{args[0]} of tmux: exit {p.returncode}, not 3")
    return text


def check_names_all(text, pid):
    for fd, link in descriptors(pid).items():
        if "socket:" in link and f"fd {fd} " not in text:
            raise Fail(f"fd {fd} ({link}) is not among the refusals")


def main():
    if not shutil.which("tmux"):
        print("tmux is not installed")
        return 77
    directory = os.environ["DIR"]
    tmux(directory, "new-session", "-d", "-s", "main", "exec sh")
    try:
        pid = int(tmux(directory, "display-message", "-p", "#{pid}"))
        before = procs.stable_snapshot(pid)  # the client of the last command may be going
        image = os.path.join(directory, "image")
        check_names_all(refusal("check", pid), pid)
        check_names_all(refusal("dump", pid, "-o", image), pid)
        if os.path.exists(image):
            raise Fail("a refused dump left an image")
        changed = procs.differences(before, procs.snapshot(pid))
        if changed:
            raise Fail("tmux is not as it was:\n" + "\n".join(changed))
        tmux(directory, "send-keys", "-t", "main", "echo still-$((40 + 2)) >said", "Enter")
        if not procs.wait_until(lambda: procs.read(os.path.join(directory, "said")) == "still-42\n", 10):
            raise Fail("the shell in tmux does not answer")
    finally:
        tmux(directory, "kill-server")
    return 0


sys.exit(main())
