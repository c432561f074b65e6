# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests that are commands: unit tests, and the executable files of a folder.

A script gets in its environment CPX (the program under test), BIN (the built subjects) and TESTS
(this tree), and runs in an empty directory. It exits with 0 (pass), 1 (fail) or 77 (skip, its last
line of output is the reason). If there is NAME.out beside NAME.sh, its output must be exactly that,
once the shell library harness/cli.sh has replaced what changes from run to run. Among its first lines may
be "# timeout: SECONDS", "# alone: REASON" (no other test at the same time) and "# user: REASON"
(runs as an ordinary user).
"""
import difflib
import os
import re
import subprocess

import procs
from sandbox import Fail, Skip
from subjects import USER, drop_privileges

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class CommandTest:
    def __init__(self, name, command, timeout=30, env=None, workdir=None):
        self.name, self.command, self.timeout = name, command, timeout
        self.env, self.workdir, self.alone, self.owner = env or {}, workdir, False, None
        self.expected = None

    def run(self, directory):
        if self.owner:
            drop_privileges()
        env = dict(os.environ, TESTS=TESTS, BIN=os.path.dirname(os.environ["CPX"]), DIR=directory,
                   PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=":".join(os.path.join(TESTS, d) for d in ("harness", "programs")), **self.env)
        out = os.path.join(directory, "out")
        with open(out, "wb") as f:
            status = subprocess.run(self.command, stdin=subprocess.DEVNULL, stdout=f, env=env,
                                    stderr=subprocess.STDOUT, cwd=self.workdir or directory).returncode
        text = procs.read(out)
        last = (text.strip().splitlines() or ["no reason given"])[-1]
        if status == 77:
            raise Skip(last)
        if status:
            print(text)
            raise Fail(f"exit {status}: {last}")
        if self.expected is not None:
            self.compare(text)

    def compare(self, text):
        if text != self.expected:
            diff = difflib.unified_diff(self.expected.splitlines(), text.splitlines(),
                                        "expected", "got", lineterm="")
            raise Fail("other output than expected:\n  " + "\n  ".join(diff))


def directives(path):
    found = {}
    with open(path, errors="replace") as f:
        for line, _ in zip(f, range(12)):
            m = re.match(r"# (timeout|alone|user): *(.+)", line)
            if m:
                found[m[1]] = m[2]
    return found


def _script(path, name):
    d = directives(path)
    test = CommandTest(name, [path], int(d.get("timeout", 60)))
    test.alone = "alone" in d
    test.owner = USER if "user" in d else None
    out = os.path.splitext(path)[0] + ".out"
    if path.endswith(".sh") and os.path.exists(out):
        test.expected = procs.read(out)
    return test


def tests(folder, prefix):
    if not os.path.isdir(folder):
        return []
    paths = [os.path.join(folder, n) for n in sorted(os.listdir(folder))]
    return [_script(p, f"{prefix}/{os.path.splitext(os.path.basename(p))[0]}") for p in paths
            if os.path.isfile(p) and os.access(p, os.X_OK)]
